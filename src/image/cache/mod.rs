//! Limits the disk space of images: unused images are removed, the least recently used one first.
//!
//! ```text
//! a name ─► Cache::hold ─► Hold (while its image is found or pulled)
//!                           └─► pin ─► Pin (from validation to close) ─► dropped: idle again ─┐
//! a pull, a load ─► Cache::changed ───────────────────────────────────────────────────────────┤ too large together?
//! policy (pure): which one goes next ◄── cleaner: lists, measures, removes ◄──────────────────┘
//! ```
//!
//! Pins exist only within this process. Before a removal, images in use by containers of other processes are found
//! through the containers' records; and a running container keeps its snapshots even if the name of its image is
//! removed. So the worst conflict between two processes is that an image is removed between a validation and a create,
//! which then fails with an error that asks to try again.

mod cleaner;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::footprint::Part;
use super::{Image, ImageStore, Reference};
use crate::eviction::{Names, Policy};
use crate::metrics::ImageLevels;
use crate::{Context, Digest, Interrupted};

/// The limit for the disk space of images.
#[derive(Debug, Clone, Default)]
pub(crate) struct CacheSettings {
    /// The most bytes that all images together may occupy; 0 means no limit.
    pub(crate) max_size: u64,
    /// Images that are never removed.
    pub(crate) exempt: Vec<Reference>,
}

/// The images and their users. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Cache(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    images: Arc<ImageStore>,
    exempt: BTreeSet<String>,
    limit: u64,
    policy: Mutex<Policy<Digest, Part>>,
    names: Mutex<Names>,
    /// Wakes the cleaner when there may be something to remove.
    wake: Notify,
    /// Wakes waiting callers when a removal has succeeded or failed.
    settled: Notify,
}

/// Keeps the image of a name from being removed, also an image that gets the name while this is held. Dropping it ends
/// the protection.
#[derive(Debug)]
#[must_use = "an image that is not held may go at any moment"]
pub(crate) struct Hold(Option<(Arc<Shared>, String)>);

/// An image in use. Dropping it ends the use.
#[derive(Debug)]
#[must_use = "an image that is not pinned may go at any moment"]
pub(crate) struct Pin(Option<(Arc<Shared>, Digest)>);

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
            names: Mutex::default(),
            wake: Notify::new(),
            settled: Notify::new(),
        });
        tracker.spawn(cleaner::run(Arc::clone(&shared), life));
        Self(Some(shared))
    }

    /// Holds a name before its image is looked up or pulled. Waits while the name is being removed.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn hold(&self, ctx: &Context, reference: &Reference) -> Result<Hold, Interrupted> {
        let Some(shared) = &self.0 else {
            return Ok(Hold(None));
        };
        let name = reference.to_string();
        shared.once(ctx, || shared.names().hold(&name)).await?;
        Ok(Hold(Some((Arc::clone(shared), name))))
    }

    /// The images, and what they occupy; `None` without a limit, where nobody measures that.
    pub(crate) fn levels(&self) -> Option<ImageLevels> {
        let shared = self.0.as_ref()?;
        let policy = shared.policy();
        let (in_use, exempt, idle) = policy.uses();
        Some(ImageLevels {
            in_use,
            exempt,
            idle,
            occupied: policy.total(),
            limit: shared.limit,
        })
    }

    /// Notifies the cleaner that images were added.
    pub(crate) fn changed(&self) {
        if let Some(shared) = &self.0 {
            shared.wake.notify_one();
        }
    }
}

impl Hold {
    /// Marks the image of the name as used. If the image is being removed under its other names, this waits for the end
    /// of the removal; the held name itself keeps the image.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn pin(&self, ctx: &Context, image: &Image) -> Result<Pin, Interrupted> {
        let Some((shared, _)) = &self.0 else {
            return Ok(Pin(None));
        };
        let digest = &image.target.digest;
        shared.once(ctx, || shared.policy().pin(digest)).await?;
        Ok(Pin(Some((Arc::clone(shared), digest.clone()))))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some((shared, name)) = &self.0 {
            shared.names().release(name);
        }
    }
}

impl Shared {
    /// Waits until `can` returns true. It is called again whenever a removal ends.
    async fn once(&self, ctx: &Context, can: impl Fn() -> bool) -> Result<(), Interrupted> {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if can() {
                return Ok(());
            }
            ctx.run(settled).await?;
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn policy(&self) -> MutexGuard<'_, Policy<Digest, Part>> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let Some((shared, digest)) = &self.0 else {
            return;
        };
        let mut policy = shared.policy();
        policy.unpin(digest);
        // The cleaner is woken only if there is a need, because functions end often and usually there is enough room.
        if policy.total() > shared.limit || !policy.is_measured(digest) {
            shared.wake.notify_one();
        }
    }
}
