//! Starts a kept container: for the first time, or again after its end.
//!
//! The writable layer is the one that the container has had from its creation. Everything of the run is new: network,
//! cgroup, streams and process.

use std::sync::Arc;

use fnctr_oci::Spec;
use serde_json::Value;

use super::container::{Container, Current};
use super::create::{self, Chosen};
use super::custody::Custody;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::facts::Facts;
use super::kept::{self, LastRun, RunEnd};
use super::record::{self, Owner};
use super::remains::Remains;
use super::restart::Restarts;
use super::run::Run;
use super::run_parts::RunParts;
use super::stage::Phase;
use super::turn::Turn;
use super::{Deps, checks, custody, find, label, network, respec, server_lock, spec, undo};
use crate::containerd::{Field, Record};
use crate::stdio::Streams;
use crate::teardown::{Failed, Teardown};
use crate::{Context, failpoint};

/// Why a kept container cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStarted {
    /// It runs.
    #[error("it runs already")]
    Runs,
    /// Another process has its turn.
    #[error("another process is starting it")]
    Starting,
    /// It has processes, and no task.
    #[error("its processes run, and containerd has lost them")]
    Lost,
    /// Its removal was begun, and has failed or waits.
    #[error("it is being removed")]
    Removing,
    /// It is gone.
    #[error("it was removed")]
    Removed,
    /// Its policy would have started it again.
    #[error("a user has stopped it")]
    Stopped,
}

/// Why a container is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartedBy {
    /// A user wants it.
    User,
    /// A server has started, and the restart policy says so.
    Server,
    /// Its last run is over, and the restart policy says so.
    Policy,
}

impl StartedBy {
    /// What is known of the restarts from this start on.
    fn restarts(self, before: Restarts) -> Restarts {
        match self {
            Self::User | Self::Server => Restarts::default(),
            Self::Policy => Restarts {
                count: before.count.saturating_add(1),
                ..before
            },
        }
    }
}

impl NotStarted {
    /// Whether a start has failed because the container runs, or another process is starting it.
    pub(crate) fn is_because_it_runs(error: &Error) -> bool {
        let first = Some(error as &(dyn std::error::Error + 'static));
        let mut causes = std::iter::successors(first, |error| error.source());
        causes.any(|cause| matches!(cause.downcast_ref(), Some(Self::Runs | Self::Starting)))
    }
}

impl Container {
    /// Starts a kept container that does not run. If it fails, the container stays as it was before, with the reason on
    /// its record. `streams` is called when the streams are needed; it receives the context of the start, which it must
    /// not outlast. `custody` is how this process looks after the run, and `by` is why it is started.
    ///
    /// # Errors
    /// [`Kind::OutOfOrder`] if the container runs, or was not made to be kept; [`Kind::Busy`] if another process is
    /// starting it; [`Kind::NotFound`] if it was removed.
    ///
    /// # Cancellation
    /// Safe to drop: the start is undone on its own task, as it is when `ctx` is interrupted.
    pub(crate) async fn start<F>(
        &self,
        ctx: &Context,
        custody: Custody,
        by: StartedBy,
        streams: impl FnOnce(Context) -> F + Send + 'static,
    ) -> Result<Run>
    where
        F: Future<Output = Result<Streams>> + Send + 'static,
    {
        let this = self.clone();
        let start = move |ctx: Context| async move {
            let started = this.start_here(&ctx, &custody, by, streams);
            this.deps().phase("start", this.id(), started).await
        };
        self.deps().tracked(ctx, start).await
    }

    /// Like [`Self::start`], for a container that this process leaves running: see
    /// [`server_lock::streams_of_detached`].
    ///
    /// # Cancellation
    /// As for [`Self::start`].
    pub(crate) async fn start_detached(&self, ctx: &Context, custody: Custody) -> Result<Run> {
        let streams = server_lock::streams_of_detached(self.deps());
        self.start(ctx, custody, StartedBy::User, |_| std::future::ready(Ok(streams)))
            .await
    }

    /// Fails as [`Self::start`] would for a container that was not made to be kept. Nothing is changed.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn can_start(&self, ctx: &Context) -> Result<()> {
        let record = find::get(self.deps(), ctx, self.id()).await?;
        kept::plan_of(&record).map(drop)
    }

    /// Whether its runs have a terminal.
    ///
    /// # Errors
    /// As for [`Self::can_start`].
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn has_terminal(&self, ctx: &Context) -> Result<bool> {
        let record = find::get(self.deps(), ctx, self.id()).await?;
        Ok(kept::plan_of(&record)?.config.terminal)
    }

    async fn start_here<F>(
        &self,
        ctx: &Context,
        custody: &Custody,
        by: StartedBy,
        streams: impl FnOnce(Context) -> F,
    ) -> Result<Run>
    where
        F: Future<Output = Result<Streams>>,
    {
        let (deps, id) = (self.deps(), self.id());
        let refuse = |kind, why| Err(Error::new(Step::Start, id, kind, why));
        let turn = Turn::take(deps, ctx, id).await?;
        let _own = ctx.run(self.undo().lock()).await.at(Step::Start, id)?;
        let mut record = find::get(deps, ctx, id).await?;
        if record::attempt_of(&record) != self.attempt() {
            return refuse(Kind::NotFound, NotStarted::Removed);
        }
        if deps.is_being_removed(id, self.attempt()) {
            return refuse(Kind::OutOfOrder, NotStarted::Removing);
        }
        if by == StartedBy::Policy && kept::restarts(&record).is_stopped {
            return refuse(Kind::OutOfOrder, NotStarted::Stopped);
        }
        let plan = kept::plan_of(&record)?;
        let mut before = kept::last_run(&record).unwrap_or_default();
        self.catch_up(ctx, &record, &before).await?;
        if let Some(run) = self.run() {
            let mut stage = run.stage().lock().await;
            match (run.exit_now(), stage.phase) {
                // A start that was killed half-way may have left processes too; they are removed below.
                (Some(exit), _) if exit.code.is_none() && !turn.was_left && find::is_lost(deps, &record) => {
                    return refuse(Kind::OutOfOrder, NotStarted::Lost);
                }
                (Some(exit), _) => {
                    // Before the task is removed: the code cannot be read afterwards.
                    if let LastRun::Started { .. } = before {
                        before = before.ended(&exit);
                        kept::write_end(&deps.session, ctx, &mut record, &before).await?;
                        deps.tell_end(id, &exit);
                    }
                }
                // If its owner has ended, no process will open the start gate.
                (None, Phase::Ready) if custody::owner_is_gone(&record.labels) => {
                    before = LastRun::Ended(RunEnd::default());
                }
                (None, Phase::Ready) => return refuse(Kind::Busy, NotStarted::Starting),
                (None, _) => return refuse(Kind::OutOfOrder, NotStarted::Runs),
            }
            let clean_up = ctx.detached(deps.config.close_grace);
            let failed = run.discard(&clean_up, &mut stage).await;
            super::error::report(Step::Close, id, failed)?;
            run.ends();
        }
        self.set_current(Current::idle(before.clone()));
        let (now, mut undo) = (LastRun::now(), deps.undo_list(id));
        let unchanged = record.clone();
        let made = async {
            let chosen = choose(deps, ctx, &plan, (custody, by), &now, &mut record).await?;
            let snapshots = deps.session.snapshots(&record.snapshotter);
            let rootfs = snapshots.mounts(ctx, &record.snapshot_key).await;
            let rootfs = rootfs.at(Step::Rootfs, id)?;
            create::make_run(deps, ctx, &plan, chosen, &rootfs, streams, &mut undo).await
        };
        let run = match made.await {
            // A kept container stays when its last handle is dropped, and so does its run.
            Ok(parts) => Run::new(deps, id, RunParts { stays: true, ..parts }, undo),
            Err(error) => {
                if self.unwind(ctx, &mut undo).await {
                    self.write_back(ctx, unchanged, &before, &error).await;
                }
                return Err(error);
            }
        };
        if let Err(error) = run.start_now(ctx).await {
            let mut stage = run.stage().lock().await;
            if self.unwind(ctx, &mut stage.undo).await {
                self.write_back(ctx, unchanged, &before, &error).await;
            }
            run.leave(&mut stage);
            return Err(error);
        }
        self.set_current(Current {
            run: Some(run.clone()),
            last: Some(now),
        });
        Ok(run)
    }

    /// Undoes a start that failed, as far as the run still belongs to this container: another process may have removed
    /// the container. Returns whether the record is this container's and can show that nothing is left. If something is,
    /// the record shows the run, and the next command looks after it.
    async fn unwind(&self, ctx: &Context, undo: &mut Teardown) -> bool {
        let deps = self.deps();
        let clean_up = ctx.detached(deps.config.close_grace);
        let owner = record::owner(&deps.session, &clean_up, self.id(), self.attempt()).await;
        match owner {
            Ok(Owner::Another) => undo.keep_only(&[network::STEP]),
            Ok(Owner::Nobody) => undo.keep_only(&[network::STEP, undo::STREAMS]),
            Ok(Owner::This) | Err(_) => {}
        }
        let failed = undo.run(&clean_up).await;
        undo.forget();
        is_undone(&failed) && !matches!(owner, Ok(Owner::Another | Owner::Nobody))
    }

    /// Restores the record to its state before a start that failed, and adds the reason.
    async fn write_back(&self, ctx: &Context, mut record: Record, before: &LastRun, error: &Error) {
        let deps = self.deps();
        let clean_up = ctx.detached(deps.config.close_grace);
        let written = async {
            let [labels, last] = kept::set_last_run(&mut record, before)?;
            let why = kept::set_start_error(&mut record, Some(crate::chain(error)));
            let fields: Vec<_> = [labels, last, Field::Spec].into_iter().chain(why).collect();
            let written = deps
                .session
                .containers()
                .update(&clean_up, &record, &fields)
                .await;
            written.at(Step::Record, self.id())
        };
        if let Err(error) = written.await {
            tracing::warn!(error = %crate::chain(&error), "cannot restore the record of a container that was not started; it shows a run");
        }
    }
}

/// Whether no step failed; logs those that did.
fn is_undone(failed: &[Failed]) -> bool {
    for failed in failed {
        tracing::warn!(error = %crate::chain(failed), "a failed start could not undo a step");
    }
    failed.is_empty()
}

/// Chooses the network, checks what may have changed since the container was made, and writes to the record that a run
/// begins.
async fn choose(
    deps: &Arc<Deps>,
    ctx: &Context,
    plan: &super::Plan,
    (custody, by): (&Custody, StartedBy),
    now: &LastRun,
    record: &mut Record,
) -> Result<Chosen> {
    let placement = Facts::of(record).placement;
    let joining = network::reserve(deps, ctx, plan).await?;
    let config = spec::complete(deps, plan, &joining);
    let internal = |error| Error::new(Step::Record, &plan.id, Kind::Internal, error);
    let refused = |error| Error::new(Step::Network, &plan.id, Kind::Unsupported, error);
    let mut value: Value = serde_json::from_slice(&record.spec).map_err(internal)?;
    respec::set_network(&mut value, joining.mode()).map_err(refused)?;
    respec::set_sources(&mut value, &config);
    record.spec = serde_json::to_vec(&value).map_err(internal)?;
    let spec: Spec = serde_json::from_value(value).map_err(internal)?;
    checks::again(deps, plan, placement.as_ref(), &spec)?;
    record.labels.retain(|name, _| {
        let of_a_run = [label::SANDBOX, label::OWNER, label::DETACHED, label::DEADLINE];
        !of_a_run.contains(&name.as_str())
    });
    record.labels.extend(custody.labels());
    if let Some(sandbox) = joining.sandbox() {
        record
            .labels
            .insert(label::SANDBOX.to_owned(), sandbox.to_owned());
    }
    let [labels, last] = kept::set_last_run(record, now)?;
    let why = kept::set_start_error(record, None);
    let restarts = kept::set_restarts(record, by.restarts(kept::restarts(record)))?;
    let fields: Vec<_> = [labels, last, Field::Spec]
        .into_iter()
        .chain(why)
        .chain(restarts)
        .collect();
    // The sandbox is on the record before it is made, as in a create.
    let written = deps.session.containers().update(ctx, record, &fields).await;
    written.at(Step::Record, &plan.id)?;
    failpoint::reach("after", "run on record");
    Ok(Chosen {
        joining,
        config,
        options: record.runtime_options.clone(),
        remains: Remains::of_record(deps, record, placement.clone()),
        placement,
    })
}
