//! What the tasks of a server share.

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};

use super::name_table::NameTable;
use super::registry::Registry;
use super::starter::DoorStarter;
use crate::Context;
use crate::engine::deps::Deps;

/// How many containers' ends are written at once: containerd writes them one by one anyway.
const PLACES: usize = 8;

/// What the tasks of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) deps: Arc<Deps>,
    pub(super) registry: Registry,
    /// How many containers are written to at once.
    pub(super) places: Semaphore,
    /// A container with a deadline is new, or has a new one.
    pub(super) deadlines: Notify,
    /// How containers are started again.
    pub(super) starter: DoorStarter,
    /// The names of containers on their networks.
    pub(super) names: Arc<NameTable>,
    /// Ends with the server.
    pub(super) life: Context,
}

impl Shared {
    pub(super) fn new(deps: Arc<Deps>) -> Self {
        Self {
            life: deps.background.life.child(),
            deps,
            registry: Registry::default(),
            places: Semaphore::new(PLACES),
            deadlines: Notify::new(),
            starter: DoorStarter::default(),
            names: Arc::default(),
        }
    }
}
