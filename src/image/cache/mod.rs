//! How much room images may take: the ones that nobody uses go, the one that was used longest ago first.
//!
//! ```text
//! a name ─► Cache::hold ─► Hold (while its image is found or pulled)
//!                           └─► pin ─► Pin (from validation to close) ─► dropped: idle again ─┐
//! a pull, a load ─► Cache::changed ───────────────────────────────────────────────────────────┤ too large together?
//! policy (pure): which one goes next ◄── cleaner: lists, measures, removes ◄──────────────────┘
//! ```
//!
//! Pins are this process's own. What containers of others use is seen when it comes to removing, by their records; and a
//! container that runs keeps its snapshots whatever becomes of the image's name. So the worst that can happen between two
//! processes is that an image is gone between a validation and a create, which is an error that says "try again".

mod cleaner;
mod names;
mod policy;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use self::names::Names;
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
    names: Mutex<Names>,
    /// There may be something to do.
    wake: Notify,
    /// Something that was leaving has left, or stays.
    settled: Notify,
}

/// A name whose image does not go, also one that comes while this is held. Dropped, it may.
#[derive(Debug)]
#[must_use = "an image that is not held may go at any moment"]
pub(crate) struct Hold(Option<(Arc<Shared>, String)>);

/// An image in use. Dropped, it is used no more.
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

    /// Holds a name, before its image is looked for or pulled. Waits while it is being removed.
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

    /// There are more images than before.
    pub(crate) fn changed(&self) {
        if let Some(shared) = &self.0 {
            shared.wake.notify_one();
        }
    }
}

impl Hold {
    /// Marks the image of the name as used. It may have been leaving by its other names; that is waited for, and this name
    /// keeps it.
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
    /// Waits until something can be done, which depends on what is leaving.
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
        // Functions end all the time, and mostly there is room.
        if policy.total() > shared.limit || !policy.is_measured(digest) {
            shared.wake.notify_one();
        }
    }
}
