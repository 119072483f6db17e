//! One task's claim on one container: checks the contract's order and calls the engine.
//!
//! Steps that change anything run on a tracked task that holds the stage. If a caller drops its future, the step is
//! cancelled, and everything that was created by then stays in the cookie for `close` to undo. Freezing does not wait
//! for the stage.

mod kept;

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::sync::Mutex as StageLock;

use super::draft::Draft;
use super::error::translate;
use super::held::Held;
use super::logs::Log;
use super::shared::Shared;
use super::wait::Started;
use super::{pull, streams};
use crate::Context;
use crate::driver::{
    ContainerTask, Cookie, ErrImageWithVolume, Error, ErrorKind, Phase, Step, WaitResult, host,
};
use crate::engine::{self, Kind, Plan, Run};
use crate::image::{Image, Pin, refuses_volume};

/// A cookie of the containerd driver.
#[derive(Clone)]
pub(crate) struct ContainerdCookie(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    task: Arc<dyn ContainerTask>,
    id: String,
    /// The plan of the container.
    draft: Draft,
    /// The destination of the log, if there is one.
    log: Option<Log>,
    /// Whether the task receives measurements.
    takes_stats: bool,
    stage: Arc<StageLock<Stage>>,
    /// Cancelled by a close, so that the step that holds the stage gives up.
    life: Context,
    /// Set once the container exists, so that freezing it takes no lock of the cookie.
    container: OnceLock<Held>,
    started: AtomicBool,
    /// Whether an attempt to create has taken the task's streams, which is possible only once.
    spent: AtomicBool,
}

/// A create that failed after it had taken the task's streams cannot be repeated with them.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot create container {id:?} again: the attempt that failed has used up its streams, so it takes a new task"
)]
struct Spent {
    id: String,
}

/// The phase of the cookie, and the objects that it holds in that phase.
#[derive(Debug)]
struct Stage {
    phase: Phase,
    image: Option<Image>,
    /// Keeps the image until the close.
    pin: Option<Pin>,
}

impl ContainerdCookie {
    pub(super) fn new(
        shared: &Arc<Shared>,
        task: Arc<dyn ContainerTask>,
        plan: Plan,
        log: Option<Log>,
        takes_stats: bool,
    ) -> Self {
        Self::of(shared, task, plan.id.to_string(), Some(plan), log, takes_stats)
    }

    fn of(
        shared: &Arc<Shared>,
        task: Arc<dyn ContainerTask>,
        id: String,
        plan: Option<Plan>,
        log: Option<Log>,
        takes_stats: bool,
    ) -> Self {
        Self(Arc::new(Inner {
            shared: Arc::clone(shared),
            id,
            task,
            draft: Draft::new(plan),
            log,
            takes_stats,
            stage: Arc::new(StageLock::new(Stage {
                phase: Phase::Fresh,
                image: None,
                pin: None,
            })),
            life: shared.life.child(),
            container: OnceLock::new(),
            started: AtomicBool::new(false),
            spent: AtomicBool::new(false),
        }))
    }

    /// A cookie of a container that was taken over, in the phase of the container.
    pub(super) fn adopted(
        shared: &Arc<Shared>,
        task: Arc<dyn ContainerTask>,
        held: Held,
        phase: Phase,
    ) -> Self {
        let cookie = Self::of(shared, task, held.container.id().to_string(), None, None, false);
        let inner = &cookie.0;
        // Both are new, so the one cannot be set already, and the other cannot be locked.
        drop(inner.container.set(held));
        if phase == Phase::Running {
            inner.started.store(true, Ordering::Release);
        }
        if let Ok(mut stage) = inner.stage.try_lock() {
            stage.phase = phase;
        }
        cookie
    }

    /// The container's name.
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    /// The container's run, once it was started.
    pub(crate) fn started(&self) -> Result<&Run, Error> {
        self.running(Step::Freeze)
    }

    /// Leaves a started container to a later process.
    pub(crate) async fn leave(&self) {
        if let Some(held) = self.0.container.get() {
            held.leave().await;
        }
    }

    /// The current plan. Only a container that was taken over has none, and no step of it needs one.
    fn plan(&self, step: Step) -> Result<Plan, Error> {
        let plan = self.0.draft.plan();
        plan.ok_or_else(|| refuse(step, Phase::Running, &self.0.id))
    }

    /// The phase of the cookie or, while a step is under way, the phase in which that step began.
    fn phase(&self) -> Phase {
        if let Ok(stage) = self.0.stage.try_lock() {
            return stage.phase;
        }
        match self.0.container.get() {
            _ if self.0.life.check().is_err() => Phase::Closed,
            Some(_) if self.0.started.load(Ordering::Acquire) => Phase::Running,
            Some(_) => Phase::Created,
            None => Phase::Valid,
        }
    }

    /// The container's run, if `step` may be taken now. Does not block.
    fn running(&self, step: Step) -> Result<&Run, Error> {
        let started = self.0.started.load(Ordering::Acquire);
        match self.0.container.get().map(|held| &held.run) {
            Some(Some(run)) if started => Ok(run),
            Some(_) => Err(refuse(step, Phase::Created, &self.0.id)),
            None => Err(refuse(step, self.phase(), &self.0.id)),
        }
    }

    /// The error of a step that a close has interrupted, although the caller has cancelled nothing: the step came too
    /// late.
    fn turned_away(&self, step: Step, ctx: &Context, error: engine::Error) -> Error {
        if error.kind() == Kind::Cancelled && ctx.check().is_ok() {
            let closed = refuse(step, Phase::Closed, &self.0.id);
            return self.0.shared.open().err().unwrap_or(closed);
        }
        translate(error)
    }

    /// Runs a step on its own task. The step is cancelled if the caller drops its future, and by a close.
    async fn step<T, F>(&self, ctx: &Context, op: impl FnOnce(Self, Context) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.0.shared.open()?;
        let linked = ctx.linked(&self.0.life);
        let done = self.0.shared.tracked(&linked, |ctx| op(self.clone(), ctx)).await;
        done.map_err(|error| self.0.shared.or_closed(ctx, error))
    }

    async fn create_now(self, ctx: Context) -> Result<(), Error> {
        let mut stage = self.0.stage.lock().await;
        Step::CreateContainer.check(stage.phase, &self.0.id)?;
        ctx.check()?;
        let Some(image) = stage.image.clone() else {
            return Err(refuse(Step::CreateContainer, Phase::Fresh, &self.0.id));
        };
        if self.0.spent.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::OutOfOrder,
                Spent {
                    id: self.0.id.clone(),
                },
            ));
        }
        // Connected before anything is taken or created, so that a host may retry once syslog is back.
        let syslog = match &self.0.log {
            Some(log) => {
                let engine = &self.0.shared.engine;
                Some(log.connect(&ctx, engine.tracker(), engine.counters()).await?)
            }
            None => None,
        };
        let Some(plan) = self.0.draft.take() else {
            return Err(refuse(Step::CreateContainer, Phase::Running, &self.0.id));
        };
        let (this, id) = (self.clone(), self.0.id.clone());
        let streams = async move |ctx: Context| {
            this.0.spent.store(true, Ordering::Release);
            let streams = streams::of(&this.0.task, &ctx).await.map_err(|error| {
                let kind = error.interrupted().map_or(Kind::Internal, Kind::from);
                engine::Error::new(engine::Step::Stdio, id, kind, error)
            })?;
            Ok(match syslog {
                Some(syslog) => syslog.attach(streams),
                None => streams,
            })
        };
        let created = self.0.shared.engine.create_here(&ctx, plan, image, streams).await;
        let (owned, run) = created.map_err(|error| {
            self.0.draft.give_back();
            translate(error)
        })?;
        stage.phase = Phase::Created;
        stage.image = None;
        drop(self.0.container.set(Held::owned(owned, Some(run))));
        Ok(())
    }

    async fn run_now(self, ctx: Context, watched: Context) -> Result<Started, Error> {
        let mut stage = self.0.stage.lock().await;
        Step::Run.check(stage.phase, &self.0.id)?;
        let held = self.0.container.get();
        let Some((held, run)) = held.and_then(|held| Some((held, held.run.as_ref()?))) else {
            return Err(refuse(Step::Run, stage.phase, &self.0.id));
        };
        run.start_here(&ctx).await.map_err(translate)?;
        stage.phase = Phase::Running;
        self.0.started.store(true, Ordering::Release);
        if self.0.takes_stats {
            self.0.shared.sampler.follow(run, &self.0.task);
        }
        Ok(Started::new(held.clone(), watched, &self.0.shared.life))
    }

    async fn validate_now(self, ctx: Context) -> Result<bool, Error> {
        let mut stage = self.0.stage.lock().await;
        Step::ValidateImage.check(stage.phase, &self.0.id)?;
        let plan = self.plan(Step::ValidateImage)?;
        let found = self
            .0
            .shared
            .engine
            .resolve(&ctx, &plan)
            .await
            .map_err(translate)?;
        let Some((image, pin)) = found else {
            stage.phase = Phase::Missing;
            return Ok(true);
        };
        if !self.0.shared.config.image_enable_volume
            && refuses_volume(&image.config)
            && let Some(volume) = image.config.volumes.first()
        {
            let found = ErrImageWithVolume {
                image: plan.image.familiar(),
                volume: volume.clone(),
            };
            return Err(found.into());
        }
        stage.phase = Phase::Valid;
        stage.image = Some(image);
        stage.pin = Some(pin);
        Ok(false)
    }

    async fn pull_now(self, ctx: Context) -> Result<(), Error> {
        let mut stage = self.0.stage.lock().await;
        Step::PullImage.check(stage.phase, &self.0.id)?;
        let plan = self.plan(Step::PullImage)?;
        stage.pin = pull::pull(&self.0.shared, &ctx, &plan, &self.0.task).await?;
        stage.phase = Phase::Pulled;
        Ok(())
    }

    async fn close_now(self) -> Result<(), Error> {
        let mut stage = self.0.stage.lock().await;
        stage.phase = Phase::Closed;
        stage.image = None;
        let closed = match self.0.container.get() {
            Some(held) => held.container.remove_here().await.map_err(translate),
            None => Ok(()),
        };
        stage.pin = None;
        // The host's own code comes last, so that none of the driver's work waits for it.
        let task = Arc::clone(&self.0.task);
        let grace = Context::timeout(self.0.shared.grace);
        let cleaned_up = host::call(&grace, "ContainerTask::close", move || task.close()).await;
        closed?;
        cleaned_up.map_err(Error::from)
    }
}

fn refuse(step: Step, phase: Phase, id: &str) -> Error {
    match step.check(phase, id) {
        Err(error) => error,
        // The phase would allow the step, but another call of this cookie is running.
        Ok(()) => Error::new(
            ErrorKind::OutOfOrder,
            format!("cannot {step} container {id:?}: it is being created"),
        ),
    }
}

#[async_trait]
impl Cookie for ContainerdCookie {
    async fn validate_image(&self, ctx: &Context) -> Result<bool, Error> {
        self.step(ctx, Self::validate_now).await
    }

    async fn pull_image(&self, ctx: &Context) -> Result<(), Error> {
        self.step(ctx, Self::pull_now).await
    }

    async fn create_container(&self, ctx: &Context) -> Result<(), Error> {
        self.step(ctx, Self::create_now).await
    }

    async fn run(&self, ctx: &Context) -> Result<Box<dyn WaitResult>, Error> {
        let watched = ctx.clone();
        let started = self.step(ctx, |this, ctx| this.run_now(ctx, watched)).await?;
        Ok(Box::new(started))
    }

    async fn freeze(&self, ctx: &Context) -> Result<(), Error> {
        self.0.shared.open()?;
        let run = self.running(Step::Freeze)?;
        let frozen = run.freeze(&ctx.linked(&self.0.life)).await;
        frozen.map_err(|error| self.turned_away(Step::Freeze, ctx, error))
    }

    async fn unfreeze(&self, ctx: &Context) -> Result<(), Error> {
        self.0.shared.open()?;
        let run = self.running(Step::Unfreeze)?;
        let thawed = run.thaw(&ctx.linked(&self.0.life)).await;
        thawed.map_err(|error| self.turned_away(Step::Unfreeze, ctx, error))
    }

    /// Ignores the caller's context: a caller whose deadline has passed wants the container removed all the more.
    async fn close(&self, _: &Context) -> Result<(), Error> {
        // The step that holds the stage gives up first.
        self.0.life.cancel();
        self.0.shared.finished(self.clone().close_now()).await
    }

    /// `()` for a container that was taken over: its options are not known.
    fn container_options(&self) -> Box<dyn Any + Send> {
        self.0.draft.options()
    }

    /// Allowed even while the image is validated or pulled, because neither depends on the options.
    fn change_container_options(&self, change: &mut dyn FnMut(&mut dyn Any)) -> Result<(), Error> {
        self.0.shared.open()?;
        Step::ChangeOptions.check(self.phase(), &self.0.id)?;
        if self.0.draft.change(change) {
            return Ok(());
        }
        Err(refuse(Step::ChangeOptions, Phase::Valid, &self.0.id))
    }
}

impl fmt::Debug for ContainerdCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerdCookie")
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}
