//! Ownership of a container is a value: its holder removes the container or leaves it; dropping it removes the
//! container.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::container::Container;
use crate::cgroup;

/// A container and the duty to remove it. Clones share the duty: if nothing has removed the container before, the drop
/// of the last clone does, in the background.
#[derive(Debug, Clone)]
#[must_use = "an owned container is removed when this is dropped"]
pub(crate) struct Owned(Arc<Duty>);

#[derive(Debug)]
struct Duty {
    container: Container,
    /// Whether the container was left, so that there is no duty any more.
    is_left: AtomicBool,
}

impl Owned {
    pub(super) fn new(container: Container) -> Self {
        Self(Arc::new(Duty {
            container,
            is_left: AtomicBool::new(false),
        }))
    }

    /// The container.
    pub(crate) fn container(&self) -> &Container {
        &self.0.container
    }

    /// Leaves the container as it is, for a later process to find by its record. It has no owner from then on.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task.
    pub(crate) async fn leave(&self) {
        let duty = Arc::clone(&self.0);
        let leave = async move {
            duty.container.leave_here().await;
            duty.is_left.store(true, Ordering::Release);
            Ok(())
        };
        if let Err(error) = self.0.container.deps().finished(leave).await {
            tracing::error!(id = %self.0.container.id(), error = %crate::chain(&error), "cannot leave the container");
        }
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if self.is_left.load(Ordering::Acquire) || self.container.is_gone() {
            return;
        }
        let container = self.container.clone();
        // If the process or its runtime ends before the removal does, the next start continues the removal.
        container.note_removal();
        if container.is_intact()
            && let Some(run) = container.run()
            && let Some(paths) = run.paths()
        {
            // Also thaws processes that a v1 freezer holds. If this fails, the removal kills them through containerd.
            drop(cgroup::kill_all(paths));
        }
        tracing::warn!(id = %container.id(), "the container was dropped before all of it was removed; removing it in the background");
        let background = &container.deps().background;
        let (tracker, runtime) = (background.tracker.clone(), background.runtime.clone());
        let work = async move {
            if let Err(error) = container.remove_here().await {
                tracing::error!(id = %container.id(), error = %crate::chain(&error), "cannot remove a container that was dropped");
                // Also if the removal could not begin: the note above names this process, which may live on.
                container.note_unfinished();
            }
        };
        drop(tracker.spawn_on(work, &runtime));
    }
}
