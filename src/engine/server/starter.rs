//! How a front door starts the containers that it made, for a server that starts them again.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::served::Served;
use crate::engine::again::StartedBy;

/// Starts a container as its front door does: with its log, for example. Returns whether it runs.
pub(crate) type Starter =
    Arc<dyn Fn(Arc<Served>, StartedBy) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// The starter of the server's front door, if it has one.
#[derive(Default)]
pub(super) struct DoorStarter {
    starter: OnceLock<Starter>,
    /// Whether the front door is open, or there is none.
    is_open: AtomicBool,
}

impl fmt::Debug for DoorStarter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoorStarter")
            .field("is_open", &self.is_open)
            .finish_non_exhaustive()
    }
}

impl DoorStarter {
    /// Sets the starter; the first one stays.
    pub(super) fn set(&self, starter: Starter) {
        drop(self.starter.set(starter));
    }

    pub(super) fn get(&self) -> Option<&Starter> {
        self.starter.get()
    }

    /// From now on, containers are started again.
    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }
}
