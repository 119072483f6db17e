//! The end of a kept container's run: it is written to the record, and then everything of the run is removed.

use std::sync::Arc;

use super::container::{Container, Current};
use super::error::{self, Error, Kind, Result, Step};
use super::facts::Facts;
use super::kept::{self, LastRun};
use super::remains::Remains;
use super::turn::Turn;
use super::{Deps, adopt, custody, find, label, record};
use crate::containerd::{Record, TaskInfo, TaskStatus};
use crate::{Context, failpoint};

/// Why the end of a run cannot be written.
#[derive(Debug, thiserror::Error)]
enum NotSettled {
    #[error("it still runs")]
    Runs,
    #[error("it was removed")]
    Removed,
}

impl Container {
    /// Writes to the record how the run of a kept container ended, unless another process has done so, and removes
    /// everything of the run. Returns what the record says from then on.
    ///
    /// # Errors
    /// [`Kind::OutOfOrder`] if the container runs; [`Kind::NotFound`] if it was removed.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task, with its own time limit.
    pub(crate) async fn settle(&self) -> Result<LastRun> {
        let this = self.clone();
        self.deps()
            .finished(async move { this.settle_here().await })
            .await
    }

    /// Like [`Self::settle`], on the caller's own task, which must be tracked.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(super) async fn settle_here(&self) -> Result<LastRun> {
        let ctx = Context::timeout(self.deps().config.close_grace);
        let turn = Turn::take(self.deps(), &ctx, self.id()).await?;
        self.settle_holding(turn).await
    }

    /// Like [`Self::settle_here`], for a caller that has the turn.
    ///
    /// # Cancellation
    /// Not safe to drop.
    async fn settle_holding(&self, _turn: Turn) -> Result<LastRun> {
        let (deps, id) = (self.deps(), self.id());
        let refuse = |kind, why| Err(Error::new(Step::Settle, id, kind, why));
        let _own = self.undo().lock().await;
        // The time limit starts here, so it does not include the wait for the locks.
        let ctx = Context::timeout(deps.config.close_grace);
        let mut record = find::get(deps, &ctx, id).await?;
        if record::attempt_of(&record) != self.attempt() {
            return refuse(Kind::NotFound, NotSettled::Removed);
        }
        let mut last = kept::last_run(&record).unwrap_or_default();
        self.catch_up(&ctx, &record, &last).await?;
        let Some(run) = self.run() else { return Ok(last) };
        let Some(exit) = run.exit_now() else {
            return refuse(Kind::OutOfOrder, NotSettled::Runs);
        };
        // Before the task is removed, which nobody could ask for the code afterwards.
        if let LastRun::Started { .. } = last {
            last = last.ended(&exit);
            kept::write_end(&deps.session, &ctx, &mut record, &last).await?;
            failpoint::reach("after", "end on record");
            deps.tell_end(id, &exit);
        }
        let failed = run.discard(&ctx, &mut *run.stage().lock().await).await;
        if failed.is_empty() {
            run.ends();
            self.set_current(Current::idle(last.clone()));
        } else {
            self.set_current(Current {
                run: Some(run),
                last: Some(last.clone()),
            });
        }
        error::report(Step::Settle, id, failed)?;
        Ok(last)
    }
}

/// Whether a kept container waits for somebody to settle its run, by its record and its task: the run is over, or was
/// given up before there was a task, and no process looks after it; or a settling was given up half-way.
pub(super) fn is_due(deps: &Deps, record: &Record, task: Option<&TaskInfo>) -> bool {
    let has_ended = task.is_none_or(|task| task.status == TaskStatus::Stopped);
    let owner_is_gone = || custody::owner_is_gone(&record.labels);
    match kept::last_run(record) {
        None | Some(LastRun::Never) => false,
        _ if !has_ended => false,
        Some(LastRun::Ended(_)) => task.is_some(),
        Some(LastRun::Started { .. }) if task.is_some() => {
            record.labels.contains_key(label::DETACHED) || owner_is_gone()
        }
        // Processes that containerd has lost are the user's to end.
        Some(LastRun::Started { .. }) => {
            let remains = Remains::of_record(deps, record, Facts::of(record).placement);
            owner_is_gone() && !remains.have_processes(deps)
        }
    }
}

/// Settles a container that [`is_due`], unless another process is at it.
///
/// # Cancellation
/// Not safe to drop.
pub(super) async fn settle(deps: &Arc<Deps>, ctx: &Context, record: &Record) -> Result<()> {
    let Some(turn) = Turn::take_if_free(deps, &record.id)? else {
        return Ok(());
    };
    let container = adopt::adopt_record(deps, ctx, record).await?;
    container.settle_holding(turn).await.map(drop)
}
