//! Freezes and thaws a container: one change at a time, and a freeze that fails leaves the container running.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::container::Container;
use super::daemon::Failed;
use crate::Context;
use crate::pauses::Pauses;

/// How long a thaw is tried after a freeze that failed: an engine that is restarted is soon back.
const THAW: Duration = Duration::from_secs(30);
/// The first and the longest pause before it is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What freezes a container. Clones take turns.
#[derive(Debug, Clone)]
pub(super) struct Freezer {
    container: Arc<Container>,
    /// Held only by tracked tasks.
    turn: Arc<Turn<()>>,
}

impl Freezer {
    pub(super) fn new(container: &Arc<Container>) -> Self {
        Self {
            container: Arc::clone(container),
            turn: Arc::default(),
        }
    }

    /// Freezes or thaws the container. One that is in that state already stays in it. Returns `None`, and does nothing,
    /// if `life` or `caller` ends before its turn. A freeze whose caller has gone before it is confirmed is taken back: a
    /// host that is told of an error goes on using the container.
    ///
    /// # Cancellation
    /// Not safe to drop half-way; runs on a tracked task.
    pub(super) async fn turn(
        &self,
        life: &Context,
        caller: &Context,
        is_frozen: bool,
    ) -> Option<Result<(), Failed>> {
        let _turn = self.turn.lock().await;
        life.check().ok()?;
        caller.check().ok()?;
        if !is_frozen {
            return Some(self.thaw().await);
        }
        let frozen = self.freeze().await;
        if frozen.is_ok() && caller.check().is_err() {
            // A container that is being closed needs no thaw.
            if life.check().is_ok() {
                self.take_back().await;
            }
            return None;
        }
        Some(frozen)
    }

    /// Waits for the change under way, and lets none begin while the guard is held.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn stop(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    async fn freeze(&self) -> Result<(), Failed> {
        let (daemon, id) = (self.container.daemon(), self.container.id());
        match daemon.pause(id).await {
            Err(failed) if failed.says("already paused") => Ok(()),
            Err(failed) if failed.status() == Some(409) || failed.is_missing() => Err(failed),
            Err(failed) => {
                // It may be frozen, in part or not at all; a host that is told of an error goes on using it.
                self.take_back().await;
                Err(failed)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Thaws after a freeze that has failed.
    async fn take_back(&self) {
        if let Err(thaw) = self.insist_on_the_thaw().await {
            let (id, error) = (self.container.id(), crate::chain(&thaw));
            tracing::warn!(id, error, "a container may be frozen after a freeze that failed");
        }
    }

    /// Thaws, and tries again for a while if the engine does not answer.
    async fn insist_on_the_thaw(&self) -> Result<(), Failed> {
        let ctx = Context::timeout(THAW);
        let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
        loop {
            match self.thaw().await {
                Err(failed) if failed.is_unknown() && ctx.run(pauses.wait()).await.is_ok() => {}
                thawed => return thawed,
            }
        }
    }

    async fn thaw(&self) -> Result<(), Failed> {
        match self.container.daemon().unpause(self.container.id()).await {
            Err(failed) if is_running(&failed) => Ok(()),
            thawed => thawed,
        }
    }
}

/// Whether the engine has refused a thaw because nothing is frozen. Its status is 500 then.
fn is_running(failed: &Failed) -> bool {
    failed.says("is not paused")
}
