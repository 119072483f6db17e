//! A prepared network: a container that does nothing but hold a network namespace, which functions join.

use std::sync::Arc;

use crate::Context;

/// A slot of the pool. Clones are the same slot.
#[derive(Debug, Clone)]
pub(super) struct Slot(Arc<Holder>);

#[derive(Debug)]
struct Holder {
    id: String,
    network: Option<String>,
    /// Cancelled when the container has ended.
    ended: Context,
}

impl Slot {
    pub(super) fn new(id: String, network: Option<String>) -> Self {
        Self(Arc::new(Holder {
            id,
            network,
            ended: Context::new(),
        }))
    }

    /// The engine's id of the container.
    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    /// The network that it is on; `None` is the default.
    pub(super) fn network(&self) -> Option<&str> {
        self.0.network.as_deref()
    }

    /// Whether its container runs, as far as the engine has told.
    pub(super) fn is_alive(&self) -> bool {
        self.0.ended.check().is_ok()
    }

    /// Records that its container has ended.
    pub(super) fn has_ended(&self) {
        self.0.ended.cancel();
    }
}
