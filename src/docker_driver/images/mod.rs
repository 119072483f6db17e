//! Limits the disk space of images: unused images are removed, the least recently used one first.
//!
//! ```text
//! a name ─► Images::hold ─► Hold (while its image is looked for or pulled)
//!                             └─► pin ─► Pin (from validation to close) ─► dropped: idle again ─┐
//! a pull, a load ─► Images::changed ────────────────────────────────────────────────────────────┤ too large together?
//! policy (pure): which one goes next ◄── cleaner: lists and removes ◄───────────────────────────┘
//! ```
//!
//! Images that other clients of the engine use are not known here; the engine does not remove them.

mod cleaner;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::daemon::Daemon;
use super::image_name::ImageName;
use crate::driver::{Config, Error, ErrorKind};
use crate::eviction::{Names, Policy};
use crate::{Context, Interrupted};

/// The images and their users. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Images(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    daemon: Daemon,
    /// By [`ImageName::key`].
    exempt: BTreeSet<String>,
    limit: u64,
    /// By id. Engines before API 1.42 do not tell what images share, so each counts as a whole.
    policy: Mutex<Policy<String, String>>,
    names: Mutex<Names>,
    /// Wakes the cleaner when there may be something to remove.
    wake: Notify,
    /// Wakes waiting callers when a removal has succeeded or failed.
    settled: Notify,
}

/// Keeps the image of a name from being removed. Dropping it ends the protection.
#[derive(Debug)]
#[must_use = "an image that is not held may go at any moment"]
pub(super) struct Hold(Option<(Arc<Shared>, String)>);

/// An image in use. Dropping it ends the use.
#[derive(Debug)]
#[must_use = "an image that is not pinned may go at any moment"]
pub(super) struct Pin(Option<(Arc<Shared>, String)>);

/// The images that a configuration exempts from removal: those that it names, and the pool's.
pub(super) fn exempt(config: &Config, pool: Option<&ImageName>) -> Result<BTreeSet<String>, Error> {
    let named = config.image_clean_exempt_tags.split_whitespace().map(|name| {
        let parsed = ImageName::parse(name);
        parsed.map_err(|why| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("image_clean_exempt_tags: {why}"),
            )
        })
    });
    let mut keys = BTreeSet::new();
    for name in named {
        keys.insert(name?.key());
    }
    keys.extend(pool.map(ImageName::key));
    Ok(keys)
}

impl Images {
    /// Starts the cleaner on `tracker`, until `life` ends, if there is a limit.
    pub(super) fn start(
        daemon: &Daemon,
        limit: u64,
        exempt: BTreeSet<String>,
        tracker: &TaskTracker,
        life: &Context,
    ) -> Self {
        if limit == 0 {
            return Self(None);
        }
        let shared = Arc::new(Shared {
            daemon: daemon.clone(),
            exempt,
            limit,
            policy: Mutex::new(Policy::new(limit)),
            names: Mutex::default(),
            wake: Notify::new(),
            settled: Notify::new(),
        });
        tracker.spawn(cleaner::run(Arc::clone(&shared), life.clone()));
        Self(Some(shared))
    }

    /// Holds a name before its image is looked for or pulled. Waits while the name is being removed.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn hold(&self, ctx: &Context, image: &ImageName) -> Result<Hold, Interrupted> {
        let Some(shared) = &self.0 else {
            return Ok(Hold(None));
        };
        let key = image.key();
        shared.once(ctx, || shared.names().hold(&key)).await?;
        Ok(Hold(Some((Arc::clone(shared), key))))
    }

    /// Notifies the cleaner that images were added.
    pub(super) fn changed(&self) {
        if let Some(shared) = &self.0 {
            shared.wake.notify_one();
        }
    }
}

impl Hold {
    /// Marks an image as used. If it is being removed under another name, this waits for the end of the removal.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn pin(&self, ctx: &Context, id: &str) -> Result<Pin, Interrupted> {
        let Some((shared, _)) = &self.0 else {
            return Ok(Pin(None));
        };
        let id = id.to_owned();
        shared.once(ctx, || shared.policy().pin(&id)).await?;
        Ok(Pin(Some((Arc::clone(shared), id))))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some((shared, key)) = &self.0 {
            shared.names().release(key);
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let Some((shared, id)) = &self.0 else { return };
        let mut policy = shared.policy();
        policy.unpin(id);
        // The cleaner is woken only if there is a need, because functions end often and usually there is enough room.
        if policy.total() > shared.limit || !policy.is_measured(id) {
            shared.wake.notify_one();
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

    fn policy(&self) -> MutexGuard<'_, Policy<String, String>> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
