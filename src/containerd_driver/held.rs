//! A container, as held by a cookie and by the waiters for its end.

use crate::engine::{Container, Owned};

/// A container, and the duty to remove it unless another process created it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) container: Container,
    duty: Option<Owned>,
}

impl Held {
    /// A container that another process has created.
    pub(super) fn adopted(container: Container) -> Self {
        Self {
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

impl From<Owned> for Held {
    fn from(owned: Owned) -> Self {
        Self {
            container: owned.container().clone(),
            duty: Some(owned),
        }
    }
}
