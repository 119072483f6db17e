//! Changes the size of a container's terminal.

use std::sync::Arc;

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::run::Run;
use crate::Context;

impl Run {
    /// Changes the height and width of its terminal, in characters. Without a terminal, nothing happens.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if the process has ended.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task.
    pub(crate) async fn resize(&self, ctx: &Context, size: (u16, u16)) -> Result<()> {
        if !self.has_terminal() {
            return Ok(());
        }
        let (deps, id) = (Arc::clone(self.deps()), self.id().clone());
        let resize = move |ctx: Context| async move {
            let resized = deps.session.tasks().resize(&ctx, &id, size).await;
            resized.at(Step::Resize, &id)
        };
        match self.deps().tracked(ctx, resize).await {
            // The shim's words for that differ from version to version.
            Err(_) if self.exit_now().is_some() => Err(Error::new(
                Step::Resize,
                self.id(),
                Kind::NotFound,
                "it has ended",
            )),
            resized => resized,
        }
    }
}
