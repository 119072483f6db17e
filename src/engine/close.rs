//! The end of an engine, and of what it does beside everything else.

use tokio_util::task::TaskTracker;

use super::deps::Engine;
use super::error::{At as _, Result, Step};
use super::placement;
use crate::Context;

impl Engine {
    /// Waits until the work at the start that undoes what earlier processes left is over, whether it could undo everything
    /// or not. What it could not undo is in the log.
    ///
    /// # Cancellation
    /// Safe to drop: the work goes on.
    pub(crate) async fn recovered(&self, ctx: &Context) -> Result<()> {
        let recovery = &self.0.background.recovery;
        recovery.close();
        ctx.run(recovery.wait())
            .await
            .at(Step::Find, "what earlier processes left")
    }

    /// The tracker that every background task of the engine belongs to.
    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.0.background.tracker
    }

    /// Ends the engine's background work. Containers that run go on; what is being undone is waited for.
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
