//! A container as a cookie holds it, and as those do who wait for its end.

use crate::engine::{Container, Owned};

/// A container, and the duty to remove it unless it was another process's.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) container: Container,
    duty: Option<Owned>,
}

impl Held {
    /// A container that another process has made.
    pub(super) fn adopted(container: Container) -> Self {
        Self {
            container,
            duty: None,
        }
    }

    /// Leaves it to a later process.
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
