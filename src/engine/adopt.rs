//! Takes over containers that exist already, by their records and tasks.

use std::sync::Arc;

use super::container::{Container, Current};
use super::deps::{Deps, Engine};
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::facts::Facts;
use super::find::{get, living};
use super::kept::{self, LastRun};
use super::network::NetworkHistory;
use super::record::{Claim, Origin};
use super::remains::Remains;
use super::run::Run;
use super::run_parts::RunParts;
use super::stage::Phase;
use super::{disk, label, logs, network, placement, record, rootfs, task, undo, volumes};
use crate::containerd::{Record, TaskInfo, TaskStatus};
use crate::stdio::{Pumps, WeakStreamsLock};
use crate::teardown::Teardown;
use crate::{ContainerId, Context};

impl Engine {
    /// Takes over a container that an earlier process left.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn adopt(&self, ctx: &Context, id: &ContainerId) -> Result<Container> {
        adopt(&self.0, ctx, id).await
    }

    /// Like [`Self::adopt`], and returns the full name of the image that the container was made from.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn adopt_of(&self, ctx: &Context, id: &ContainerId) -> Result<(Container, String)> {
        let record = get(&self.0, ctx, id).await?;
        let container = adopt_record(&self.0, ctx, &record).await?;
        Ok((container, record.image))
    }
}

/// Adopts a container of a process that is gone. Its output up to now is lost with that process.
pub(super) async fn adopt(deps: &Arc<Deps>, ctx: &Context, id: &ContainerId) -> Result<Container> {
    adopt_record(deps, ctx, &get(deps, ctx, id).await?).await
}

/// Like [`adopt`], for a record that was read before.
pub(super) async fn adopt_record(deps: &Arc<Deps>, ctx: &Context, record: &Record) -> Result<Container> {
    check_maker(record)?;
    // A run is on the record before it has a task.
    let task = match kept::last_run(record) {
        Some(LastRun::Never) => None,
        _ => task_of(deps, ctx, &record.id).await?,
    };
    adopt_with(deps, record, task)
}

/// Like [`adopt_record`], for a task that was read after the record; `None` if there is none.
pub(super) fn adopt_with(deps: &Arc<Deps>, record: &Record, task: Option<TaskInfo>) -> Result<Container> {
    check_maker(record)?;
    let origin = Origin::Adopted {
        attempt: record::attempt_of(record).to_owned(),
    };
    let current = current(deps, record, task);
    let (undo, claim) = undo_of(deps, record);
    Ok(Container::new(deps, &record.id, current, origin, claim, undo))
}

fn check_maker(record: &Record) -> Result<()> {
    if record.labels.contains_key(label::ENGINE) {
        return Ok(());
    }
    let why = "the container of that name was not made by fnctr";
    Err(Error::new(Step::Find, &record.id, Kind::NotFound, why))
}

async fn task_of(deps: &Deps, ctx: &Context, id: &ContainerId) -> Result<Option<TaskInfo>> {
    match deps.session.tasks().get(ctx, id).await {
        Ok(task) => Ok(Some(task)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error).at(Step::Find, id),
    }
}

/// The run of a container that was found by its record. A kept container has none if it has never run. One whose end is
/// on the record has one, because a part of that run may be left.
fn current(deps: &Arc<Deps>, record: &Record, task: Option<TaskInfo>) -> Current {
    let id = &record.id;
    let last = kept::last_run(record);
    if task.is_none() && last == Some(LastRun::Never) {
        return Current::idle(LastRun::Never);
    }
    let pid = task.as_ref().and_then(living);
    // Without a task there is no process, and nothing is known about its end but what the record tells.
    let ended = match (&task, &last) {
        (None, Some(LastRun::Ended(end))) => Some((end.code, end.ended_at)),
        (None, _) => Some((None, None)),
        (Some(task), _) if task.status == TaskStatus::Stopped => Some((Some(task.exit.code), task.exit.at)),
        (Some(_), _) => None,
    };
    let created = task.is_some_and(|task| task.status == TaskStatus::Created);
    let Facts {
        placement, memory, ..
    } = Facts::of(record);
    let parts = RunParts {
        above: None,
        pid,
        ended,
        paths: placement::cgroups_of(deps, id, pid, placement.as_ref()),
        memory,
        pumps: Arc::new(Pumps::none()),
        phase: if created { Phase::Ready } else { Phase::Running },
        from_birth: false,
        hold: WeakStreamsLock::default(),
        terminal: task.is_some_and(|task| match task.status {
            // Its shim does not answer, and containerd does not know either.
            TaskStatus::Unknown => kept::plan_of(record).is_ok_and(|plan| plan.config.terminal),
            _ => task.terminal,
        }),
        tells_end: false,
        stays: true,
        network: NetworkHistory::default(),
    };
    let remains = Remains::of_record(deps, record, placement);
    let run = Run::new(deps, id, parts, undo_of_run(deps, record, remains));
    Current { run: Some(run), last }
}

impl Container {
    /// Takes over the current run if another process has removed the one that this handle knows, or has started another
    /// since. The caller holds the lock of the undo list.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(super) async fn catch_up(&self, ctx: &Context, record: &Record, last: &LastRun) -> Result<()> {
        let Current { run: known, last: of } = self.current();
        let is_same = of.as_ref().map(LastRun::started_at) == Some(last.started_at());
        if known.is_none() && of.as_ref() == Some(last) {
            return Ok(());
        }
        // The end of a run that was adopted while it ran is watched, as is that of a run of this process.
        let is_sure = |run: &Run| match run.exit_now() {
            None => run.is_from_birth() || (run.pid().is_some() && !run.is_ready()),
            Some(exit) => run.is_from_birth() || exit.code.is_some(),
        };
        if is_same && known.as_ref().is_some_and(is_sure) {
            self.set_current(Current {
                run: known,
                last: Some(last.clone()),
            });
            return Ok(());
        }
        let task = task_of(self.deps(), ctx, &record.id).await?;
        self.set_current(current(self.deps(), record, task));
        if let Some(known) = known {
            known.leave(&mut *known.stage().lock().await);
        }
        Ok(())
    }
}

/// The undo list that `create` would have left for the container. It follows from the record alone; [`undo`] has its
/// order.
fn undo_of(deps: &Arc<Deps>, record: &Record) -> (Teardown, Claim) {
    let id = &record.id;
    let mut list = deps.undo_list(id);
    volumes::defer_removal_of(&mut list, deps, record);
    let (session, snapshotter) = (&deps.session, &deps.config.snapshotter);
    let claim = record::defer_removal(&mut list, session, record);
    rootfs::defer_removal(&mut list, session, snapshotter, id);
    if record.labels.contains_key(label::FS_SIZE) {
        disk::defer_release(&mut list, session, snapshotter, id);
    }
    if let Some(path) = logs::path_of(record) {
        logs::defer_removal(&mut list, path);
    }
    (list, claim)
}

/// The undo list that `create` would have left for the run.
fn undo_of_run(deps: &Arc<Deps>, record: &Record, remains: Remains) -> Teardown {
    let mut list = deps.undo_list(&record.id);
    network::defer_removal_of(&mut list, deps, record);
    undo::defer_streams(&mut list, &deps.fifo_dir(&record.id));
    task::defer_discard(&mut list, deps, remains);
    list
}
