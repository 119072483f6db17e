//! Second half of the line: from a plan and its image to a process behind its start gate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fnctr_oci::{ContainerConfig, Spec};

use super::container::Container;
use super::deps::{Deps, Engine};
use super::error::{At as _, Error, Kind, Result, Step};
use super::init_layer::InitLayer;
use super::network::{Joining, Past};
use super::owned::Owned;
use super::plan::Plan;
use super::record::Origin;
use super::run::{Begun, Phase, Run};
use super::{
    checks, disk, etc, init_layer, network, placement, record, rootfs, spec, task, traffic, undo, volumes,
};
use crate::containerd::Mount;
use crate::image::Image;
use crate::stdio::{Fifos, Pumps, Streams};
use crate::teardown::Teardown;
use crate::{ContainerId, Context};

/// Before containerd is asked a second time to end a container's input; doubles up to [`MAX_STDIN_RETRY`].
const STDIN_RETRY: Duration = Duration::from_millis(50);
const MAX_STDIN_RETRY: Duration = Duration::from_secs(2);

impl Engine {
    /// Creates the container up to its start gate. Whatever fails, nothing is left; `streams` is called when they are
    /// needed, so what fails before has not used them up. It is given the context of the creation, which it must not
    /// outlast.
    ///
    /// # Cancellation
    /// Safe to drop: it unwinds on its own task, and so it does when `ctx` is interrupted.
    pub(crate) async fn create<F>(
        &self,
        ctx: &Context,
        plan: Plan,
        image: Image,
        streams: impl FnOnce(Context) -> F + Send + 'static,
    ) -> Result<Owned>
    where
        F: Future<Output = Result<Streams>> + Send + 'static,
    {
        let deps = Arc::clone(&self.0);
        let create = move |ctx: Context| async move { create(&deps, &ctx, &plan, &image, streams).await };
        self.0.tracked(ctx, create).await
    }
}

/// Creates everything; whatever fails, everything made so far is undone before the error is returned.
pub(super) async fn create<F>(
    deps: &Arc<Deps>,
    ctx: &Context,
    plan: &Plan,
    image: &Image,
    streams: impl FnOnce(Context) -> F,
) -> Result<Owned>
where
    F: Future<Output = Result<Streams>>,
{
    let attempt = crate::ids::unique();
    let (mut own, mut of_run) = (Teardown::new(plan.id.as_str()), Teardown::new(plan.id.as_str()));
    let made = async {
        let drawn = draw(deps, ctx, plan, image).await?;
        let kept = keep(deps, ctx, plan, image, &drawn, &attempt, &mut own).await?;
        prepare(deps, ctx, plan, drawn, &kept, streams, &mut of_run).await
    };
    match made.await {
        Ok(begun) => {
            let run = Run::new(deps, &plan.id, begun, of_run);
            Ok(Owned::new(Container::new(
                deps,
                run,
                Origin::Made { attempt },
                own,
            )))
        }
        Err(error) => {
            let clean_up = ctx.detached(deps.config.close_grace);
            let mut failed = of_run.run(&clean_up).await;
            failed.extend(undo::rest(&mut own, &clean_up, &failed).await);
            if !failed.is_empty() {
                deps.note_unfinished(&plan.id, &attempt);
            }
            for failed in failed {
                tracing::warn!(error = %crate::chain(&failed), "a failed create could not undo a step");
            }
            Err(error)
        }
    }
}

/// A container that is decided and checked; nothing of it is made.
struct Drawn {
    joining: Joining,
    config: ContainerConfig,
    spec: Spec,
    layer: InitLayer,
}

/// Reserves a network, writes the spec and checks that all of it can be. Nothing is made but a name.
async fn draw(deps: &Deps, ctx: &Context, plan: &Plan, image: &Image) -> Result<Drawn> {
    let joining = network::reserve(deps, ctx, plan).await?;
    let config = spec::complete(deps, plan, &joining);
    let volumes = volumes::find(deps, ctx, plan, image).await?;
    let image_config = spec::image_config(deps, ctx, plan, image, &config, &volumes).await?;
    let spec = fnctr_oci::spec(&config, &image_config, &deps.host.oci)
        .map_err(|error| Error::new(Step::Check, &plan.id, refusal(&error), error))?;
    checks::all(deps, ctx, plan, image, &spec).await?;
    let process = spec.process().as_ref();
    let cwd = process.map_or_else(|| Path::new("/"), |process| process.cwd());
    let layer = init_layer::plan(deps, ctx, plan, image, cwd, &volumes).await?;
    Ok(Drawn {
        joining,
        config,
        spec,
        layer,
    })
}

/// Makes what a container keeps from one run to the next: its record and its writable layer. Returns the layer's mounts.
async fn keep(
    deps: &Deps,
    ctx: &Context,
    plan: &Plan,
    image: &Image,
    drawn: &Drawn,
    attempt: &str,
    undo: &mut Teardown,
) -> Result<Vec<Mount>> {
    ctx.check().at(Step::Record, &plan.id)?;
    record::create(
        deps,
        ctx,
        plan,
        &drawn.spec,
        drawn.joining.sandbox(),
        attempt,
        undo,
    )
    .await?;
    ctx.check().at(Step::Rootfs, &plan.id)?;
    let mounts = rootfs::prepare(deps, ctx, plan, image, undo).await?;
    disk::limit(deps, plan, &mounts, undo).await?;
    drawn.layer.make(deps, &plan.id, &mounts)?;
    Ok(mounts)
}

/// Makes a run, up to its start gate.
async fn prepare<F>(
    deps: &Arc<Deps>,
    ctx: &Context,
    plan: &Plan,
    drawn: Drawn,
    rootfs: &[Mount],
    streams: impl FnOnce(Context) -> F,
    undo: &mut Teardown,
) -> Result<Begun>
where
    F: Future<Output = Result<Streams>>,
{
    let Drawn { joining, config, .. } = drawn;
    ctx.check().at(Step::Network, &plan.id)?;
    let joined = network::join(deps, ctx, plan, joining, undo).await?;
    let streams = streams(ctx.clone()).await?;
    let fifos = open_fifos(deps, &plan.id, streams, undo)?;
    etc::write(deps, plan, &config, &joined)?;
    ctx.check().at(Step::Task, &plan.id)?;
    let pid = task::create(deps, ctx, &plan.id, rootfs, fifos.paths(), undo).await?;

    // A caller that has gone meanwhile wants none of it.
    ctx.check().at(Step::Task, &plan.id)?;
    let paths = placement::cgroups_of(deps, &plan.id, Some(pid), deps.placement(&plan.id).as_ref());
    // Asked before the start: a short input may be carried whole before the next line runs.
    let is_fed = fifos.has_input();
    let pumps = Arc::new(fifos.start(&deps.background.tracker, &deps.background.life));
    if is_fed {
        close_stdin_at_its_end(deps, &plan.id, &pumps);
    }
    Ok(Begun {
        pid: Some(pid),
        ended: None,
        paths,
        memory: plan.config.resources.memory,
        pumps,
        phase: Phase::Ready,
        from_birth: true,
        network: Past {
            of: joined.target.map(|target| target.id),
            counted: joined.is_used.then(|| traffic::of_pid(pid)).flatten(),
        },
    })
}

/// Most of what the translation refuses makes sense nowhere; what only this host cannot do is told apart.
fn refusal(error: &fnctr_oci::Error) -> Kind {
    match error {
        fnctr_oci::Error::OomGroup => Kind::Unsupported,
        // An empty name is searched for like any other.
        fnctr_oci::Error::EmptyProgram { .. } => Kind::CommandNotFound,
        _ => Kind::InvalidPlan,
    }
}

fn open_fifos(deps: &Deps, id: &ContainerId, streams: Streams, list: &mut Teardown) -> Result<Fifos> {
    let dir = deps.fifo_dir(id);
    undo::defer_streams(list, &dir);
    Fifos::create(&dir, streams).map_err(|error| Error::new(Step::Stdio, id, Kind::Internal, error))
}

/// The shim holds a write end of the stdin fifo, so the process sees the end of its input only when told through it.
fn close_stdin_at_its_end(deps: &Arc<Deps>, id: &ContainerId, pumps: &Arc<Pumps>) {
    let (deps, id, pumps) = (Arc::clone(deps), id.clone(), Arc::clone(pumps));
    let tracker = deps.background.tracker.clone();
    let ctx = deps.background.life.child();
    tracker.spawn(async move {
        // False: a null stream, a function that no longer reads, or a close.
        if ctx.run(pumps.stdin_done()).await != Ok(true) {
            return;
        }
        let tasks = deps.session.tasks();
        let mut pause = STDIN_RETRY;
        loop {
            let once = ctx.with_timeout(deps.config.close_grace);
            match tasks.close_stdin(&once, &id).await {
                Ok(()) => return,
                // A process that is gone needs no end of file.
                Err(error) if error.is_not_found() => return,
                // Nobody else will, and a function that reads to the end would wait for ever.
                Err(error) => tracing::warn!(%id, %error, "cannot end the container's input; trying again"),
            }
            if ctx.run(tokio::time::sleep(pause)).await.is_err() {
                return;
            }
            pause = (pause * 2).min(MAX_STDIN_RETRY);
        }
    });
}
