//! A container, as held by a cookie and by the waiters for its end.

use crate::engine::{Container, Owned, Run};

/// A container and its run, and the duty to remove the container unless another process created it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) container: Container,
    /// `None` for a kept container that does not run.
    pub(super) run: Option<Run>,
    duty: Option<Owned>,
}

impl Held {
    /// A container that this process has created.
    pub(super) fn owned(owned: Owned, run: Option<Run>) -> Self {
        Self {
            container: owned.container().clone(),
            run,
            duty: Some(owned),
        }
    }

    /// A container that another process has created.
    pub(super) fn adopted(container: Container) -> Self {
        Self {
            run: container.run(),
            container,
            duty: None,
        }
    }

    /// Leaves the container to a later process.
    pub(super) async fn leave(&self) {
        if let Some(owned) = &self.duty {
            owned.leave().await;
        }
    }
}
