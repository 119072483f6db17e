//! The end of an engine and of its background work.

use tokio_util::task::TaskTracker;

use super::deps::Engine;
use super::error::{ErrorContext as _, Result, Step};
use super::placement;
use crate::Context;

impl Engine {
    /// Waits until the work at the start has undone what earlier processes left. Failures of that work are logged, not
    /// returned.
    ///
    /// # Cancellation
    /// Safe to drop: the work continues.
    pub(crate) async fn recovered(&self, ctx: &Context) -> Result<()> {
        let recovery = &self.0.background.recovery;
        recovery.close();
        ctx.run(recovery.wait())
            .await
            .at(Step::Find, "the remains of earlier processes")
    }

    /// The tracker that every background task of the engine belongs to.
    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.0.background.tracker
    }

    /// Ends the engine's background work. Running containers keep running; undo steps in progress are waited for.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn close(&self, ctx: &Context) -> Result<()> {
        self.0.background.life.cancel();
        self.0.background.tracker.close();
        let done = ctx.run(self.0.background.tracker.wait()).await;
        done.at(Step::Wait, "the background work of the engine")?;
        placement::remove_empty_parents(&self.0).await;
        Ok(())
    }
}
