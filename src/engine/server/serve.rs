//! Becomes the server of an instance, and ends being it.

use std::sync::Arc;

use super::restarting::Cause;
use super::served::Served;
use super::shared::Shared;
use super::{follow, restarting, restore, supervise};
use crate::Context;
use crate::engine::deps::Engine;
use crate::engine::error::Result;
use crate::engine::names::NotOne;
use crate::engine::server_lock::ServerLock;
use crate::engine::turn::Turn;

/// A running server. Dropping it ends its background work and leaves all containers as they are.
#[derive(Debug)]
pub(crate) struct Server {
    pub(super) shared: Arc<Shared>,
    _lock: ServerLock,
}

impl Engine {
    /// Becomes the server of this instance, which is its containerd namespace and run directory. Returns once every
    /// container is known.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::engine::Kind::Conflict) with [`AlreadyServed`](crate::engine::AlreadyServed) if another
    /// process is the server.
    ///
    /// # Cancellation
    /// Safe to drop: what has begun ends by itself.
    pub(crate) async fn serve(&self, ctx: &Context) -> Result<Server> {
        let deps = Arc::clone(&self.0);
        let lock = ServerLock::take(&deps, ctx).await?;
        let server = Server {
            shared: Arc::new(Shared::new(deps)),
            _lock: lock,
        };
        let restored = restore::restore(&server.shared, ctx).await?;
        Turn::remove_left(&server.shared.deps, |id| server.shared.registry.has(id));
        follow::start(&server.shared, restored);
        supervise::start(&server.shared);
        Ok(server)
    }
}

impl Server {
    /// Starts the containers whose restart policies say that they run while a server does, and from now on those that end and
    /// are to be started again. Called once the server's front door is open.
    pub(crate) fn begin_restarts(&self) {
        self.shared.starter.open();
        // What a reboot or a kill has ended is settled first, and started again then.
        supervise::look_at_all(&self.shared, Cause::ServerStart);
        restarting::at_start(&self.shared);
    }

    /// Every container. Asks containerd nothing.
    pub(crate) fn containers(&self) -> Vec<Arc<Served>> {
        self.shared.registry.all()
    }

    /// The container that `given` refers to: its id, its name, or the beginning of a made-up id. Asks containerd nothing.
    ///
    /// # Errors
    /// [`NotOne`] if it refers to none, or to several.
    pub(crate) fn find(&self, given: &str) -> Result<Arc<Served>, NotOne> {
        self.shared.registry.find(given)
    }

    /// Ends the server's background work, and leaves all containers as they are.
    ///
    /// # Cancellation
    /// Safe to drop: containers that were not left yet are left when the last handle to them is dropped.
    pub(crate) async fn close(&self) {
        self.shared.life.cancel();
        for served in self.shared.registry.all() {
            served.container().leave().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.life.cancel();
    }
}
