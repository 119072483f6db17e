//! Second half of a creation: from a plan and its image to a process behind its start gate.

use std::path::Path;
use std::sync::Arc;

use fnctr_oci::{ContainerConfig, Spec};

use super::container::{Container, Current};
use super::deps::{Deps, Engine};
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::init_layer::InitLayer;
use super::input;
use super::kept::LastRun;
use super::network::{Joining, NetworkHistory};
use super::owned::Owned;
use super::placement::Placement;
use super::plan::Plan;
use super::record::{Claim, Origin};
use super::remains::Remains;
use super::run::Run;
use super::run_parts::RunParts;
use super::stage::Phase;
use super::task::Stdio;
use super::turn::Turn;
use super::volume_mounts::VolumeMounts;
use super::{
    checks, declared_volumes, disk, etc, init_layer, logs, names, network, placement, record, rootfs,
    server_lock, spec, task, traffic, undo,
};
use crate::containerd::{Mount, Record, RuntimeOptions};
use crate::image::Image;
use crate::stdio::{Fifos, Streams, StreamsLock};
use crate::teardown::Teardown;
use crate::{ContainerId, Context, failpoint};

impl Engine {
    /// Creates the container up to its start gate, on the caller's own task, which must be tracked: a task of its own
    /// would cost a function's life two changes of threads. If it fails, or `ctx` is interrupted, nothing is left.
    /// `streams` is called when the streams are needed, so an earlier failure does not use them up. It receives the
    /// context of the creation, which it must not outlast.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(crate) async fn create_here<F>(
        &self,
        ctx: &Context,
        plan: Plan,
        image: Image,
        streams: impl FnOnce(Context) -> F,
    ) -> Result<(Owned, Run)>
    where
        F: Future<Output = Result<Streams>>,
    {
        let plan = logs::placed(&self.0, plan);
        let created = create_all(&self.0, ctx, &plan, &image, streams);
        self.0.phase("create", &plan.id, created).await
    }

    /// Creates a container that is kept, without a run, and returns its record, too. If it fails, nothing is left.
    /// [`Container::start`] runs it.
    ///
    /// # Cancellation
    /// Safe to drop: the creation is undone on its own task, as it is when `ctx` is interrupted.
    pub(crate) async fn create_kept(
        &self,
        ctx: &Context,
        plan: Plan,
        image: Image,
    ) -> Result<(Owned, Record)> {
        let (deps, plan) = (Arc::clone(&self.0), logs::placed(&self.0, plan));
        let create = move |ctx: Context| async move {
            let created = create_kept(&deps, &ctx, &plan, &image);
            deps.phase("create", &plan.id, created).await
        };
        self.0.tracked(ctx, create).await
    }
}

/// Creates everything. If a step fails, everything made so far is undone before the error is returned.
pub(super) async fn create_all<F>(
    deps: &Arc<Deps>,
    ctx: &Context,
    plan: &Plan,
    image: &Image,
    streams: impl FnOnce(Context) -> F,
) -> Result<(Owned, Run)>
where
    F: Future<Output = Result<Streams>>,
{
    let _turn = turn(deps, ctx, plan).await?;
    let _name = match &plan.name {
        Some(name) => Some(names::reserve(deps, ctx, name, &plan.id).await?),
        None => None,
    };
    let (attempt, claim) = (crate::ids::unique(), Claim::default());
    let (mut own, mut of_run) = (deps.undo_list(&plan.id), deps.undo_list(&plan.id));
    let last = LastRun::now();
    let mut volumes = VolumeMounts::default();
    let made = async {
        let plan = &*volumes.add(deps, ctx, plan, &mut own).await?;
        let checked = check(deps, ctx, plan, image).await?;
        let sandbox = checked.joining.sandbox().map(str::to_owned);
        let new = record::New {
            spec: &checked.spec,
            sandbox: sandbox.as_deref(),
            attempt: &attempt,
            claim: &claim,
            last_run: &last,
        };
        let (rootfs, _) =
            make_record_and_layer(deps, ctx, plan, image, new, &checked.layer, &mut own).await?;
        volumes.fill(deps, &plan.id, &rootfs).await?;
        let CheckedPlan { joining, config, .. } = checked;
        let chosen = Chosen {
            joining,
            config,
            options: deps.config.runtime.options(),
            placement: deps.placement(&plan.id),
            remains: Remains::of_plan(deps, &plan.id),
        };
        let is_left = plan.is_kept && plan.custody.as_ref().is_some_and(|custody| custody.detached);
        let streams = move |ctx| async move {
            match streams(ctx).await? {
                null if is_left && null.are_null() => Ok(server_lock::streams_of_detached(deps)),
                streams => Ok(streams),
            }
        };
        make_run(deps, ctx, plan, chosen, &rootfs, streams, &mut of_run).await
    };
    match made.await {
        Ok(parts) => {
            let run = Run::new(deps, &plan.id, parts, of_run);
            let current = Current {
                run: Some(run.clone()),
                last: plan.is_kept.then_some(last),
            };
            let container = Container::new(deps, &plan.id, current, Origin::Made { attempt }, claim, own);
            deps.tell_created(plan);
            Ok((Owned::new(container), run))
        }
        Err(error) => {
            let clean_up = ctx.detached(deps.config.close_grace);
            let volumes = volumes.undo_held(deps).await;
            unwind(deps, ctx, &plan.id, &attempt, own, of_run).await;
            volumes.undo(deps, &clean_up, plan).await;
            Err(error)
        }
    }
}

/// Creates a container without a run, likewise.
async fn create_kept(deps: &Arc<Deps>, ctx: &Context, plan: &Plan, image: &Image) -> Result<(Owned, Record)> {
    let _turn = turn(deps, ctx, plan).await?;
    let _name = match &plan.name {
        Some(name) => Some(names::reserve(deps, ctx, name, &plan.id).await?),
        None => None,
    };
    let (attempt, claim) = (crate::ids::unique(), Claim::default());
    let mut own = deps.undo_list(&plan.id);
    let mut volumes = VolumeMounts::default();
    let made = async {
        let plan = &*volumes.add(deps, ctx, plan, &mut own).await?;
        let checked = check(deps, ctx, plan, image).await?;
        let new = record::New {
            spec: &checked.spec,
            // The network that was chosen for the checks is another one than a later run gets.
            sandbox: None,
            attempt: &attempt,
            claim: &claim,
            last_run: &LastRun::Never,
        };
        let made = make_record_and_layer(deps, ctx, plan, image, new, &checked.layer, &mut own).await?;
        volumes.fill(deps, &plan.id, &made.0).await?;
        Ok(made)
    };
    match made.await {
        Ok((_, record)) => {
            let current = Current::idle(LastRun::Never);
            let container = Container::new(deps, &plan.id, current, Origin::Made { attempt }, claim, own);
            deps.tell_created(plan);
            Ok((Owned::new(container), record))
        }
        Err(error) => {
            let no_run = deps.undo_list(&plan.id);
            let clean_up = ctx.detached(deps.config.close_grace);
            let volumes = volumes.undo_held(deps).await;
            unwind(deps, ctx, &plan.id, &attempt, own, no_run).await;
            volumes.undo(deps, &clean_up, plan).await;
            Err(error)
        }
    }
}

/// The turn to make a kept container: as soon as there is a record, another process could start it.
async fn turn(deps: &Deps, ctx: &Context, plan: &Plan) -> Result<Option<Turn>> {
    match plan.is_kept {
        true => Turn::take(deps, ctx, &plan.id).await.map(Some),
        false => Ok(None),
    }
}

/// Undoes a create that failed.
async fn unwind(
    deps: &Arc<Deps>,
    ctx: &Context,
    id: &ContainerId,
    attempt: &str,
    mut own: Teardown,
    mut of_run: Teardown,
) {
    let clean_up = ctx.detached(deps.config.close_grace);
    let mut failed = of_run.run(&clean_up).await;
    failed.extend(undo::rest(&mut own, &clean_up, &failed).await);
    if !failed.is_empty() {
        deps.note_unfinished(id, attempt);
    }
    for failed in failed {
        tracing::warn!(error = %crate::chain(&failed), "a failed create could not undo a step");
    }
}

/// A container that is planned and checked; no part of it is made.
struct CheckedPlan {
    joining: Joining,
    config: ContainerConfig,
    spec: Spec,
    layer: InitLayer,
}

/// Reserves a network, composes the spec, and checks that all of it is possible. Nothing is made except a reservation.
async fn check(deps: &Deps, ctx: &Context, plan: &Plan, image: &Image) -> Result<CheckedPlan> {
    let joining = match network::reserve(deps, ctx, plan).await {
        Err(error) if plan.is_checked_at_start && error.kind() != Kind::Internal => Joining::not_there_yet(),
        reserved => reserved?,
    };
    let config = spec::complete(deps, plan, &joining);
    let volumes = declared_volumes::find(deps, ctx, plan, image).await?;
    let image_config = spec::image_config(deps, ctx, plan, image, &config, &volumes).await?;
    let spec = fnctr_oci::spec(&config, &image_config, &deps.host.oci)
        .map_err(|error| Error::new(Step::Check, &plan.id, refusal(&error), error))?;
    checks::all(deps, ctx, plan, image, &spec).await?;
    let process = spec.process().as_ref();
    let cwd = process.map_or_else(|| Path::new("/"), |process| process.cwd());
    let layer = init_layer::plan(deps, ctx, plan, image, cwd, &volumes).await?;
    Ok(CheckedPlan {
        joining,
        config,
        spec,
        layer,
    })
}

/// Makes what a container keeps from one run to the next: its record and its writable layer. Returns the layer's
/// mounts, and the record.
async fn make_record_and_layer(
    deps: &Deps,
    ctx: &Context,
    plan: &Plan,
    image: &Image,
    new: record::New<'_>,
    layer: &InitLayer,
    undo: &mut Teardown,
) -> Result<(Vec<Mount>, Record)> {
    ctx.check().at(Step::Record, &plan.id)?;
    let record = record::create(deps, ctx, plan, new, undo).await?;
    ctx.check().at(Step::Rootfs, &plan.id)?;
    let mounts = rootfs::prepare(deps, ctx, plan, image, undo).await?;
    disk::limit(deps, plan, &mounts, undo).await?;
    layer.make(deps, &plan.id, &mounts)?;
    logs::make(plan, undo).await?;
    Ok((mounts, record))
}

/// What was chosen for a run before anything of it is made.
pub(super) struct Chosen {
    pub(super) joining: Joining,
    pub(super) config: ContainerConfig,
    /// The runtime, the cgroup, and what may be left of both, as the container's record has them. The configuration of
    /// the process that made the record may have been another.
    pub(super) options: Option<RuntimeOptions>,
    pub(super) placement: Option<Placement>,
    pub(super) remains: Remains,
}

/// Makes a run, up to its start gate.
pub(super) async fn make_run<F>(
    deps: &Arc<Deps>,
    ctx: &Context,
    plan: &Plan,
    chosen: Chosen,
    rootfs: &[Mount],
    streams: impl FnOnce(Context) -> F,
    undo: &mut Teardown,
) -> Result<RunParts>
where
    F: Future<Output = Result<Streams>>,
{
    let Chosen {
        joining,
        config,
        options,
        placement,
        remains,
    } = chosen;
    ctx.check().at(Step::Network, &plan.id)?;
    let joined = network::join(deps, ctx, plan, joining, undo).await?;
    let (streams, terminal) = (streams(ctx.clone()).await?, config.terminal);
    let streams = logs::attach(deps, plan.log.as_ref(), streams);
    let streams = match terminal {
        // The log does not attach it either.
        true => streams.of_terminal(),
        false => streams,
    };
    let fifos = open_fifos(deps, &plan.id, streams, undo)?;
    etc::write(deps, plan, &config, &joined)?;
    ctx.check().at(Step::Task, &plan.id)?;
    // While containerd makes the task, which takes longer, and before any process runs.
    let above = async {
        tokio::task::yield_now().await;
        placement::above(deps, placement.as_ref())
    };
    let stdio = Stdio {
        paths: fifos.paths(),
        terminal,
    };
    let created = task::create(deps, ctx, rootfs, stdio, options, remains, undo);
    let (created, above) = tokio::join!(created, above);
    let pid = created?;

    failpoint::reach("after", "task");
    // A caller that has gone away meanwhile needs none of it.
    ctx.check().at(Step::Task, &plan.id)?;
    let paths = placement::cgroups_of(deps, &plan.id, Some(pid), placement.as_ref());
    // Read before the start: a short input may be copied completely before the next line runs.
    let is_fed = fifos.has_input() && !terminal;
    let hold = fifos.hold().map(StreamsLock::downgrade).unwrap_or_default();
    let pumps = Arc::new(fifos.start(&deps.background.tracker, &deps.background.life));
    if is_fed {
        input::end_at_its_end(deps, &plan.id, None, &pumps);
    }
    Ok(RunParts {
        pid: Some(pid),
        ended: None,
        paths,
        above,
        memory: plan.config.resources.memory,
        pumps,
        phase: Phase::Ready,
        from_birth: true,
        hold,
        terminal,
        tells_end: !plan.is_kept,
        stays: false,
        network: NetworkHistory {
            of: joined.target.map(|target| target.id),
            counted: joined.is_used.then(|| traffic::of_pid(pid)).flatten(),
        },
    })
}

/// The kind of a refused plan. Most refused plans are invalid on every host; those that only this host cannot serve
/// have another kind.
fn refusal(error: &fnctr_oci::Error) -> Kind {
    match error {
        fnctr_oci::Error::OomGroup => Kind::Unsupported,
        // An empty name is looked up like any other, and not found.
        fnctr_oci::Error::EmptyProgram { .. } => Kind::CommandNotFound,
        _ => Kind::InvalidPlan,
    }
}

fn open_fifos(deps: &Deps, id: &ContainerId, streams: Streams, list: &mut Teardown) -> Result<Fifos> {
    let dir = deps.fifo_dir(id);
    undo::defer_streams(list, &dir);
    Fifos::create(&dir, streams).map_err(|error| Error::new(Step::Stdio, id, Kind::Internal, error))
}
