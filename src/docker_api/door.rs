//! What the handlers share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::task::TaskTracker;

use super::default_log::DefaultLog;
use super::exec_registry::{Entry, Execs};
use super::refused::Refused;
use crate::engine::{Engine, NotOne, Served, Server};
use crate::{ContainerId, Context};

/// The server behind the API.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) engine: Engine,
    pub(super) server: Arc<Server>,
    /// Tasks that outlast the request that began them.
    pub(super) tracker: TaskTracker,
    /// Ends with the server.
    pub(super) life: Context,
    pub(super) execs: Execs,
    /// The logging driver of containers whose makers name none.
    pub(super) default_log: DefaultLog,
    /// The containers between the end and the start of a restart, which do not go at that end.
    restarting: Mutex<BTreeSet<ContainerId>>,
}

impl Door {
    pub(super) fn new(engine: Engine, server: Arc<Server>, default_log: DefaultLog) -> Self {
        Self {
            engine,
            server,
            tracker: TaskTracker::new(),
            life: Context::new(),
            execs: Execs::default(),
            default_log,
            restarting: Mutex::default(),
        }
    }

    /// Whether a restart will start the container again.
    pub(super) fn is_restarting(&self, id: &ContainerId) -> bool {
        self.restarting().contains(id)
    }

    /// A restart of the container begins, or is over.
    pub(super) fn set_restarting(&self, id: &ContainerId, is_begun: bool) {
        match is_begun {
            true => self.restarting().insert(id.clone()),
            false => self.restarting().remove(id),
        };
    }

    fn restarting(&self) -> MutexGuard<'_, BTreeSet<ContainerId>> {
        self.restarting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to its end, whether or not the client waits for it.
    pub(super) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refused>> + Send + 'static,
    ) -> Result<T, Refused> {
        let done = self.tracker.spawn(work).await;
        done.map_err(|error| Refused::failed(error.to_string()))?
    }

    /// The exec of that id.
    ///
    /// # Errors
    /// Status 404 if there is none, or its container is gone.
    pub(super) fn exec(&self, id: &str) -> Result<Arc<Entry>, Refused> {
        self.execs.get(id, |served| self.has(served))
    }

    /// Whether a container is there.
    pub(super) fn has(&self, served: &Served) -> bool {
        self.server.find(served.id().as_str()).is_ok()
    }

    /// The container that a client refers to: its id, its name with or without a slash, or the beginning of its id.
    ///
    /// # Errors
    /// Status 404 if there is none, 400 if there are several.
    pub(super) fn container(&self, given: &str) -> Result<Arc<Served>, Refused> {
        let name = given.strip_prefix('/').unwrap_or(given);
        self.server.find(name).map_err(|error| match error {
            NotOne::None => Refused::no_container(given),
            _ => Refused::bad(format!("Multiple IDs found with provided prefix: {given}")),
        })
    }
}
