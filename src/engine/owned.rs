//! Ownership of a container is a value: whoever holds it removes the container, or leaves it, or has its drop remove it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::container::Container;
use crate::cgroup;

/// A container and the duty to remove it. Clones share the duty: the last one's drop does it, in the background, if nobody did
/// before.
#[derive(Debug, Clone)]
#[must_use = "an owned container is removed when this is dropped"]
pub(crate) struct Owned(Arc<Duty>);

#[derive(Debug)]
struct Duty {
    container: Container,
    left: AtomicBool,
}

impl Owned {
    pub(super) fn new(container: Container) -> Self {
        Self(Arc::new(Duty {
            container,
            left: AtomicBool::new(false),
        }))
    }

    /// The container.
    pub(crate) fn container(&self) -> &Container {
        &self.0.container
    }

    /// Leaves the container as it is, for a later process to find it by its record. It is nobody's from then on.
    pub(crate) async fn leave(&self) {
        self.0.left.store(true, Ordering::Release);
        self.0.container.leave().await;
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if self.left.load(Ordering::Acquire) || self.container.is_gone() {
            return;
        }
        // Without a runtime nothing can be waited for; the record tells the next start.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let container = self.container.clone();
        let run = container.run();
        if run.is_intact()
            && let Some(paths) = run.paths()
        {
            // Also thaws what a v1 freezer holds. Whatever it cannot do, the removal does through containerd.
            drop(cgroup::kill_all(paths));
        }
        tracing::warn!(id = %container.id(), "the last owner of the container was dropped without removing it; removing it");
        let tracker = container.deps().background.tracker.clone();
        let work = async move {
            if let Err(error) = container.remove_here().await {
                tracing::error!(id = %container.id(), error = %crate::chain(&error), "cannot remove a container that nobody owns any more; the next start tries again");
            }
        };
        drop(tracker.spawn_on(work, &runtime));
    }
}
