//! Opens the start gate, whoever waits for it.

use super::container::Container;
use super::error::Result;
use crate::Context;

impl Container {
    /// Starts the process.
    ///
    /// # Cancellation
    /// Safe to drop: it is interrupted on its own task. Whether the process was started by then shows in what the container
    /// allows next; closing it removes it either way.
    pub(crate) async fn start(&self, ctx: &Context) -> Result<()> {
        let this = self.clone();
        let start = move |ctx: Context| async move { this.start_now(&ctx).await };
        self.deps().tracked(ctx, start).await
    }
}
