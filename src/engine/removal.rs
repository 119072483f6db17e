//! The removal of a container in whatever state it is, with everything that belongs to it.

use tokio::sync::MutexGuard;

use super::container::{Container, Current};
use super::error::{self, Error, ErrorContext as _, Kind, Result, Step};
use super::kept::LastRun;
use super::record::{self, Origin, Owner};
use super::removal_turn::RemovalTurn;
use super::run::Run;
use super::stage::Stage;
use super::turn::Turn;
use super::{find, kept, network, undo};
use crate::events::Action;
use crate::teardown::{Failed, Teardown};
use crate::{Context, containerd};

/// What keeps other processes from changing or removing the container meanwhile; neither, if no file can be made for a
/// lock.
#[derive(Debug, Default)]
struct RightToRemove {
    _of_kept: Option<Turn>,
    _of_other: Option<RemovalTurn>,
}

/// Why a removal does not begin.
#[derive(Debug, thiserror::Error)]
#[error(
    "another process has been starting, stopping or removing it all the time; try again when that has ended"
)]
struct StillTaken;

impl Container {
    /// Kills the container's processes and removes everything, last first. May be called in every phase, and again: if
    /// a part could not be removed, this returns an error, and another call tries that part again.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task, with its own time limit.
    pub(crate) async fn remove(&self) -> Result<()> {
        let this = self.clone();
        let remove = async move { this.remove_here().await };
        self.deps().finished(remove).await
    }

    /// Like [`Self::remove`], except that a kept container that another process has started since it was found stays.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it runs.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task, with its own time limit.
    pub(crate) async fn remove_unless_started(&self) -> Result<()> {
        let this = self.clone();
        let remove = async move {
            let turn = this.turn_of_removal().await?;
            let mut list = this.undo().lock().await;
            let known = this.look_again().await;
            if this.is_kept() && this.is_running() {
                let why = "it was started a moment ago";
                return Err(Error::new(Step::Close, this.id(), Kind::Conflict, why));
            }
            this.remove_holding(&mut list, known, turn).await
        };
        self.deps().finished(remove).await
    }

    /// Like [`Self::remove`], on the caller's own task, which must be tracked.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(crate) async fn remove_here(&self) -> Result<()> {
        // A freeze that waits holds the stage, and gives up when the run is closed.
        if let Some(run) = self.run() {
            run.idle_ends();
        }
        let turn = self.turn_of_removal().await?;
        let mut list = self.undo().lock().await;
        let known = self.look_again().await;
        self.remove_holding(&mut list, known, turn).await
    }

    /// The turn to remove the container. If no file can be made for it, the container is removed all the same: a start
    /// that is under way then fails, and undoes what it has made.
    ///
    /// # Errors
    /// [`Kind::Busy`] if another process keeps the turn.
    async fn turn_of_removal(&self) -> Result<RightToRemove> {
        let ctx = Context::timeout(self.deps().config.close_grace).halved();
        let mut right = RightToRemove::default();
        let taken = match self.is_kept() {
            true => {
                let turn = Turn::take(self.deps(), &ctx, self.id()).await;
                turn.map(|turn| right._of_kept = Some(turn))
            }
            false => {
                let turn = RemovalTurn::take(self.deps(), &ctx, self.id()).await;
                turn.map(|turn| right._of_other = Some(turn))
            }
        };
        match taken {
            Err(error) if error.kind() == Kind::Timeout => {
                return Err(Error::new(Step::Close, self.id(), Kind::Busy, StillTaken));
            }
            Err(error) => tracing::debug!(error = %crate::chain(&error), "removing without the turn"),
            Ok(()) => {}
        }
        Ok(right)
    }

    /// Reads the run of a kept container from its record: another process may have started it again. Returns whose record
    /// it is, if that was seen. The caller holds the lock of the undo list.
    async fn look_again(&self) -> Option<Owner> {
        if !self.is_kept() {
            return None;
        }
        let ctx = Context::timeout(self.deps().config.close_grace);
        let look = async {
            let record = find::get(self.deps(), &ctx, self.id()).await?;
            match kept::last_run(&record) {
                Some(last) if record::attempt_of(&record) == self.attempt() => {
                    self.catch_up(&ctx, &record, &last).await?;
                    Ok(Some(Owner::This))
                }
                _ => Ok(None),
            }
        };
        let seen = look.await.inspect_err(|error: &Error| {
            tracing::debug!(%error, "removing the run that was known before");
        });
        seen.unwrap_or_default()
    }

    async fn remove_holding(
        &self,
        list: &mut MutexGuard<'_, Teardown>,
        known: Option<Owner>,
        _turn: RightToRemove,
    ) -> Result<()> {
        let is_intact = self.is_intact();
        let run = self.run();
        let mut stage = match &run {
            Some(run) => Some((run, run.stage().lock().await)),
            None => None,
        };
        if list.is_empty() && stage.as_ref().is_none_or(|(_, stage)| stage.is_undone()) {
            self.forget_unfinished();
            return Ok(());
        }
        let removing = async {
            // The time limit starts here, so it does not include the wait for the locks.
            let ctx = Context::timeout(self.deps().config.close_grace);
            let owner = match known {
                Some(owner) => Ok(owner),
                None => self.owner(&ctx, is_intact).await,
            };
            let ours: &[&str] = match owner {
                Ok(Owner::This) => {
                    // A function's life ends without: its owner alone knows it.
                    if self.is_kept() || matches!(self.origin(), Origin::Adopted { .. }) {
                        self.note_removal();
                    }
                    let failed = match &mut stage {
                        Some((run, stage)) => undo_both(run, stage, list, &ctx).await,
                        None => undo::rest(list, &ctx, &[]).await,
                    };
                    return self.removed(&ctx, run.as_ref(), failed).await;
                }
                // Objects of that name belong to a later container. If there is none, files may be left.
                Ok(Owner::Another) => &[network::STEP],
                Ok(Owner::Nobody) => &[network::STEP, undo::STREAMS],
                Err(error) => {
                    self.note_unfinished();
                    return Err(error).at(Step::Close, self.id());
                }
            };
            list.forget();
            let failed = match &mut stage {
                Some((run, stage)) => run.discard_only(&ctx, stage, ours).await,
                None => Vec::new(),
            };
            // The record of this container is gone. A network that is left is in the journal of the sandboxes, and the
            // next start removes it.
            self.forget_unfinished();
            error::report(Step::Close, self.id(), failed)
        };
        self.deps().phase("remove", self.id(), removing).await
    }

    /// The end of a removal: `failed` are the steps that could not be undone.
    async fn removed(&self, ctx: &Context, run: Option<&Run>, failed: Vec<Failed>) -> Result<()> {
        if failed.is_empty() {
            if let Some(run) = run {
                // A kept container whose end is not on the record is removed with it.
                if let (Some(LastRun::Started { .. }), Some(exit)) = (self.current().last, run.exit_now()) {
                    self.deps().tell_end(self.id(), &exit);
                }
                run.ends();
            }
            // Another process may remove it at the same time, and records the event then.
            if self.is_removed_here() {
                self.deps().tell(Action::Destroy, self.id());
            }
            self.forget_unfinished();
        } else {
            self.note_unfinished();
            // The task may be gone, and with it whom to ask for the exit code.
            if let Some(run) = run.filter(|_| self.is_kept()) {
                self.keep_end(ctx, run).await;
            }
        }
        error::report(Step::Close, self.id(), failed)
    }

    /// Writes the end of a run to the record, which a failed removal has left. The caller has the turn.
    async fn keep_end(&self, ctx: &Context, run: &Run) {
        let (Some(last @ LastRun::Started { .. }), Some(exit)) = (self.current().last, run.exit_now()) else {
            return;
        };
        let kept = async {
            let mut record = find::get(self.deps(), ctx, self.id()).await?;
            let end = last.ended(&exit);
            kept::write_end(&self.deps().session, ctx, &mut record, &end).await?;
            self.deps().tell_end(self.id(), &exit);
            self.set_current(Current {
                run: Some(run.clone()),
                last: Some(end),
            });
            Ok::<_, Error>(())
        };
        if let Err(error) = kept.await {
            tracing::warn!(error = %crate::chain(&error), "the removal of a container failed, and how its run ended cannot be written down");
        }
    }

    /// Which container has the name now. Asks containerd only if needed: an adopted container may have been recreated
    /// by another process, and a container made here may have been removed, in which case its cgroup is gone.
    async fn owner(&self, ctx: &Context, is_intact: bool) -> Result<Owner, containerd::Error> {
        match self.origin() {
            Origin::Made { .. } if is_intact => Ok(Owner::This),
            Origin::Made { attempt } | Origin::Adopted { attempt } => {
                record::owner(&self.deps().session, ctx, self.id(), attempt).await
            }
        }
    }
}

/// Undoes a run and its container.
async fn undo_both(run: &Run, stage: &mut Stage, container: &mut Teardown, ctx: &Context) -> Vec<Failed> {
    let mut failed = run.end(ctx, stage).await;
    if failed.is_empty() {
        return undo::rest_of_both(&mut stage.undo, container, ctx).await;
    }
    failed.extend(undo::rest_of_run(&mut stage.undo, ctx).await);
    failed.extend(undo::rest(container, ctx, &failed).await);
    failed
}
