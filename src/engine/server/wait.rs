//! Waits for what will happen to a container that a server looks after. Of one that is kept, nothing is asked of
//! containerd.

use std::sync::Arc;

use super::served::Served;
use crate::Context;
use crate::engine::error::{ErrorContext as _, Result, Step};
use crate::engine::find::State;
use crate::engine::logs;
use crate::engine::until::{self, Until};

impl Served {
    /// Waits; returns the exit code of the run that ended last. `None` if there was no run, its code is lost, or the
    /// container was removed before its next end. What happens after the call counts, even before the result is polled.
    ///
    /// # Errors
    /// The kinds of an interruption of `ctx`; those of [`Container::wait_until`](crate::engine::Container::wait_until), if
    /// the container is not kept, or another process starts it.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) fn wait_until(
        self: &Arc<Self>,
        ctx: &Context,
        until: Until,
    ) -> impl Future<Output = Result<Option<u32>>> + Send + use<> {
        let (this, ctx) = (Arc::clone(self), ctx.clone());
        let state = self.look().state;
        let next_exit = self.next_exit();
        async move {
            let container = this.container();
            let waited = async {
                match (until, state) {
                    // The container may be gone by now.
                    (Until::NotRunning, State::Exited(code)) => Ok(Some(code)),
                    (Until::NotRunning, State::Created | State::Dead) => Ok(None),
                    (Until::NotRunning, _) => container.wait(&ctx).await,
                    // It may be known anew before that, as another value; the events are of both.
                    (Until::NextExit | Until::Removed, _) if !container.is_kept() => {
                        container.wait_until(&ctx, until).await
                    }
                    (Until::NextExit, _) => Ok(next_exit.await),
                    (Until::Removed, _) => {
                        this.gone().cancelled().await;
                        Ok(container.last_code())
                    }
                }
            };
            let code = ctx.run(waited).await.at(Step::Wait, this.id())??;
            // A client that reads the log next expects all of it.
            if let Some(path) = logs::path_of(&this.record()) {
                // At the caller's limit the code is the better answer.
                let _ = ctx.run(container.deps().logs.written(path)).await;
            }
            Ok(code)
        }
    }

    fn next_exit(self: &Arc<Self>) -> impl Future<Output = Option<u32>> + Send + use<> {
        let this = Arc::clone(self);
        let mut changes = self.container().changes();
        let over = changes.borrow().over();
        async move {
            loop {
                let current = changes.borrow_and_update().clone();
                if let Some(code) = current.code_since(over) {
                    return Some(code);
                }
                // A run whose code is lost.
                if current.end_since(over).is_some() {
                    return None;
                }
                tokio::select! {
                    biased;
                    // Without a code, the record may get it from another process.
                    Some(code) = until::exit_of(current.run) => return Some(code),
                    // The sender lives as long as the container.
                    _ = changes.changed() => {}
                    () = this.gone().cancelled() => return changes.borrow().code_since(over),
                }
            }
        }
    }
}
