//! How a front door starts the containers that it made, for a server that starts them again.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use super::served::Served;
use crate::engine::again::StartedBy;

/// Starts a container as its front door does: with its log, for example. Returns whether it runs.
pub(crate) type Starter =
    Arc<dyn Fn(Arc<Served>, StartedBy) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// The starter of the server's front door, if it has one.
#[derive(Default)]
pub(super) struct DoorStarter(OnceLock<Starter>);

impl fmt::Debug for DoorStarter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DoorStarter")
            .field(&self.0.get().is_some())
            .finish()
    }
}

impl DoorStarter {
    /// Sets the starter; the first one stays.
    pub(super) fn set(&self, starter: Starter) {
        drop(self.0.set(starter));
    }

    pub(super) fn get(&self) -> Option<&Starter> {
        self.0.get()
    }
}
