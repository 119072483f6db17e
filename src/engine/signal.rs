//! Signals to a container's processes, frozen or not.

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::run::Run;
use super::task::SIGKILL;
use crate::Context;
use crate::cgroup::{self, Freezer};
use crate::events::{Action, Event, Kind as EventKind};

impl Run {
    /// Sends a signal to the container's first process; SIGKILL goes to every process of the container.
    ///
    /// A signal other than SIGKILL reaches a frozen container when it thaws; SIGKILL ends it at once in every cgroup
    /// layout. Fails with [`Kind::NotFound`] for a container that has ended already.
    ///
    /// # Cancellation
    /// Safe to drop: it is interrupted on its own task, and the signal may have been sent by then.
    pub(crate) async fn signal(&self, ctx: &Context, signal: u32) -> Result<()> {
        let this = self.clone();
        self.deps()
            .tracked(ctx, move |ctx| async move { this.signal_now(&ctx, signal).await })
            .await
    }

    async fn signal_now(&self, ctx: &Context, signal: u32) -> Result<()> {
        let refuse = |why: &'static str| Err(Error::new(Step::Signal, self.id(), Kind::NotFound, why));
        if self.exit_now().is_some() {
            match (self.is_lost(), signal == SIGKILL) {
                (false, _) => return refuse("its process has ended already"),
                (true, false) => {
                    return refuse(
                        "containerd has lost its process, and only SIGKILL reaches it through its cgroup",
                    );
                }
                (true, true) => {}
            }
        }
        if signal == SIGKILL {
            // If a kill needs a thaw after it, no freeze may come in between.
            let freezes_killed = !matches!(self.freezer(), Freezer::V2(_));
            let _stage = if freezes_killed {
                Some(ctx.run(self.stage().lock()).await.at(Step::Signal, self.id())?)
            } else {
                None
            };
            self.kill_now(ctx).await?;
        } else {
            let tasks = self.deps().session.tasks();
            let sent = tasks.kill(ctx, self.id(), signal).await;
            sent.at(Step::Signal, self.id())?;
        }
        let event = Event::new(EventKind::Container, Action::Kill, self.id().as_str());
        self.deps().record(event.with("signal", signal.to_string()));
        Ok(())
    }

    /// Whether the exit code is lost and processes of the container still run: containerd has lost its task.
    fn is_lost(&self) -> bool {
        let unknown = self.exit_now().is_some_and(|exit| exit.code.is_none());
        unknown && self.paths().is_some_and(|paths| paths.places().is_populated())
    }

    /// Kills every process of the container, in any state. Returns once the kill is sent, before the processes have
    /// ended.
    pub(super) async fn kill_now(&self, ctx: &Context) -> Result<()> {
        self.oom().note_kill();
        if let Some(paths) = self.paths() {
            match cgroup::kill_all(paths) {
                // One write, no RPC, no runtime binary; the kernel kills frozen processes too (cgroup-v2.rst).
                Ok(()) => return Ok(()),
                Err(_) if self.is_lost() => {
                    paths.places().kill();
                    return Ok(());
                }
                Err(error) => tracing::debug!(id = %self.id(), %error, "no cgroup.kill; asking containerd"),
            }
        }
        match self
            .deps()
            .session
            .tasks()
            .kill_all(ctx, self.id(), SIGKILL)
            .await
        {
            Err(error) if error.is_not_found() || error.is_failed_precondition() => {}
            other => other.at(Step::Signal, self.id())?,
        }
        // A v1 freezer holds even a killed process until it thaws; so does a runtime's own pause.
        self.release_for_kill(ctx).await
    }
}
