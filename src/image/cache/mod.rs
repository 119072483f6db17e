//! How much room images may take: the ones that nobody uses go, the one that was used longest ago first.
//!
//! ```text
//! an Image ─► Cache::pin ─► Pin (from validation to close) ─► dropped: idle again ─┐
//! a pull, a load ─► Cache::changed ────────────────────────────────────────────────┤ too large together?
//! policy (pure): which one goes next ◄── cleaner: lists, measures, removes ◄───────┘
//! ```
//!
//! Pins are this process's own. What containers of others use is seen when it comes to removing, by their records; and a
//! container that runs keeps its snapshots whatever becomes of the image's name. So the worst that can happen between two
//! processes is that an image is gone between a validation and a create, which is an error that says "try again".

mod cleaner;
mod policy;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use self::policy::Policy;
use super::footprint::Part;
use super::{Image, ImageStore, Reference};
use crate::{Context, Digest, Interrupted};

/// How much room there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct CacheSettings {
    /// All images together may occupy so many bytes; 0 is no limit.
    pub(crate) max_size: u64,
    /// Images that never go.
    pub(crate) exempt: Vec<Reference>,
}

/// The images, and who uses them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Cache(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    images: Arc<ImageStore>,
    exempt: BTreeSet<String>,
    limit: u64,
    policy: Mutex<Policy<Digest, Part>>,
    /// There may be something to do.
    wake: Notify,
    /// Something that was leaving has left, or stays.
    settled: Notify,
}

/// An image in use. Dropped, it is used no more.
#[derive(Debug)]
#[must_use = "an image that is not pinned may go at any moment"]
pub(crate) struct Pin {
    used: Option<(Arc<Shared>, Digest)>,
    /// The image was not seen since anybody asked for it, so it may have gone between the moment it was found and this one: it
    /// must be looked for once more.
    pub(crate) is_unseen: bool,
}

impl Cache {
    /// Starts the cleaner on `tracker`, until `life` ends, if there is a limit.
    pub(crate) fn start(
        settings: CacheSettings,
        images: Arc<ImageStore>,
        tracker: &TaskTracker,
        life: Context,
    ) -> Self {
        if settings.max_size == 0 {
            return Self(None);
        }
        let shared = Arc::new(Shared {
            images,
            exempt: settings.exempt.iter().map(ToString::to_string).collect(),
            limit: settings.max_size,
            policy: Mutex::new(Policy::new(settings.max_size)),
            wake: Notify::new(),
            settled: Notify::new(),
        });
        tracker.spawn(cleaner::run(Arc::clone(&shared), life));
        Self(Some(shared))
    }

    /// Marks an image as used. `None`: it is gone meanwhile.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn pin(&self, ctx: &Context, image: &Image) -> Result<Option<Pin>, Interrupted> {
        let Some(shared) = &self.0 else {
            return Ok(Some(Pin {
                used: None,
                is_unseen: false,
            }));
        };
        let digest = &image.target.digest;
        let mut waited = false;
        loop {
            let settled = shared.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            {
                let mut policy = shared.policy();
                if waited && !policy.knows(digest) {
                    return Ok(None);
                }
                let is_unseen = !policy.was_seen(digest);
                if policy.pin(digest) {
                    let used = Some((Arc::clone(shared), digest.clone()));
                    return Ok(Some(Pin { used, is_unseen }));
                }
            }
            waited = true;
            ctx.run(settled).await?;
        }
    }

    /// There are more images than before.
    pub(crate) fn changed(&self) {
        if let Some(shared) = &self.0 {
            shared.wake.notify_one();
        }
    }
}

impl Shared {
    fn policy(&self) -> MutexGuard<'_, Policy<Digest, Part>> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let Some((shared, digest)) = &self.used else {
            return;
        };
        let mut policy = shared.policy();
        policy.unpin(digest);
        // Functions end all the time, and mostly there is room.
        if policy.total() > shared.limit || !policy.is_measured(digest) {
            shared.wake.notify_one();
        }
    }
}
