//! One task's claim on one container: the contract's order in front of engine calls.
//!
//! What changes the world runs on a tracked task that holds the stage; a caller that drops its future cancels it, and
//! whatever was made by then stays in the cookie, for `close` to undo. Freezing does not wait for the stage.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use tokio::sync::Mutex as StageLock;

use super::error::translate;
use super::logs::Log;
use super::options::ContainerOptions;
use super::wait::Started;
use super::{Shared, pull};
use crate::Context;
use crate::driver::{
    ContainerTask, Cookie, ErrImageWithVolume, Error, ErrorKind, Input, Output, Phase, Step, WaitResult,
};
use crate::engine::{self, Container, Custody, Kind, Plan, label};
use crate::image::{Image, Pin, refuses_volume};
use crate::stdio::{Sink, Source, Streams};

/// A cookie of the containerd driver.
#[derive(Clone)]
pub(crate) struct ContainerdCookie(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    task: Arc<dyn ContainerTask>,
    id: String,
    plan: Mutex<Plan>,
    /// Where the log goes, if it goes anywhere.
    log: Option<Log>,
    stage: Arc<StageLock<Stage>>,
    /// Ended by a close, so that whoever holds the stage gives up.
    life: Context,
    /// Set once the container exists, so that freezing it takes no lock of the cookie.
    container: OnceLock<Container>,
    started: AtomicBool,
    /// The task's streams were handed to an attempt, which can be done once.
    spent: AtomicBool,
}

/// A create that failed after it had taken the task's streams cannot be tried again with them.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot create container {id:?} again: the attempt that failed has used up its streams, so it takes a new task"
)]
struct Spent {
    id: String,
}

/// Where the cookie stands, with what it has by then.
#[derive(Debug)]
struct Stage {
    phase: Phase,
    image: Option<Image>,
    /// The image stays, from here to the close.
    pin: Option<Pin>,
}

impl ContainerdCookie {
    pub(super) fn new(
        shared: &Arc<Shared>,
        task: Arc<dyn ContainerTask>,
        plan: Plan,
        log: Option<Log>,
    ) -> Self {
        Self(Arc::new(Inner {
            shared: Arc::clone(shared),
            id: plan.id.to_string(),
            task,
            plan: Mutex::new(plan),
            log,
            stage: Arc::new(StageLock::new(Stage {
                phase: Phase::Fresh,
                image: None,
                pin: None,
            })),
            life: Context::new(),
            container: OnceLock::new(),
            started: AtomicBool::new(false),
            spent: AtomicBool::new(false),
        }))
    }

    /// A cookie of a container that was taken over; it stands where the container does.
    pub(super) fn adopted(
        shared: &Arc<Shared>,
        task: Arc<dyn ContainerTask>,
        plan: Plan,
        container: Container,
        phase: Phase,
    ) -> Self {
        let cookie = Self::new(shared, task, plan, None);
        let inner = &cookie.0;
        // Both are fresh, so neither can be set or locked.
        drop(inner.container.set(container));
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

    /// The container, once it was started.
    pub(crate) fn container(&self) -> Result<&Container, Error> {
        self.running(Step::Freeze)
    }

    /// Leaves a started container to a later process.
    pub(crate) async fn detach(&self) {
        if let Some(container) = self.0.container.get() {
            container.detach().await;
        }
    }

    /// Writes on the container's record who looks after it, so that a later process can tell when nobody does.
    pub(crate) fn kept_for(self, custody: Custody) -> Self {
        self.plan().custody = Some(custody);
        self
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container, if `step` may be taken now. Never waits.
    fn running(&self, step: Step) -> Result<&Container, Error> {
        match (self.0.container.get(), self.0.started.load(Ordering::Acquire)) {
            (Some(container), true) => Ok(container),
            (Some(_), false) => Err(refuse(step, Phase::Created, &self.0.id)),
            (None, _) => {
                let phase = self.0.stage.try_lock().map_or(Phase::Valid, |stage| stage.phase);
                Err(refuse(step, phase, &self.0.id))
            }
        }
    }

    /// A step that a close has interrupted came too late; the caller has cancelled nothing.
    fn turned_away(&self, step: Step, ctx: &Context, error: engine::Error) -> Error {
        if error.kind() == Kind::Cancelled && ctx.check().is_ok() {
            return refuse(step, Phase::Closed, &self.0.id);
        }
        translate(error)
    }

    /// Runs a step on its own task. A caller that goes away cancels it, and so does a close.
    async fn step<T, F>(&self, ctx: &Context, op: impl FnOnce(Self, Context) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let ctx = ctx.linked(&self.0.life);
        self.0.shared.tracked(&ctx, |ctx| op(self.clone(), ctx)).await
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
        // Before anything is taken or made, so that a host may try again once syslog is back.
        let syslog = match &self.0.log {
            Some(log) => Some(log.connect(&ctx, self.0.shared.engine.tracker()).await?),
            None => None,
        };
        let plan = self.plan().clone();
        let this = self.clone();
        let streams = move || {
            this.0.spent.store(true, Ordering::Release);
            let streams = streams(this.0.task.as_ref());
            match syslog {
                Some(syslog) => syslog.attach(streams),
                None => streams,
            }
        };
        let container = self
            .0
            .shared
            .engine
            .create(&ctx, plan, image, streams)
            .await
            .map_err(translate)?;
        stage.phase = Phase::Created;
        stage.image = None;
        drop(self.0.container.set(container));
        Ok(())
    }

    async fn run_now(self, ctx: Context, watched: Context) -> Result<Started, Error> {
        let mut stage = self.0.stage.lock().await;
        Step::Run.check(stage.phase, &self.0.id)?;
        let Some(container) = self.0.container.get() else {
            return Err(refuse(Step::Run, stage.phase, &self.0.id));
        };
        container.start(&ctx).await.map_err(translate)?;
        stage.phase = Phase::Running;
        self.0.started.store(true, Ordering::Release);
        self.0.shared.sampler.follow(container, &self.0.task);
        Ok(Started::new(container.clone(), watched))
    }

    async fn validate_now(self, ctx: Context) -> Result<bool, Error> {
        let mut stage = self.0.stage.lock().await;
        Step::ValidateImage.check(stage.phase, &self.0.id)?;
        let plan = self.plan().clone();
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
        let plan = self.plan().clone();
        stage.pin = pull::pull(&self.0.shared, &ctx, &plan, self.0.task.as_ref()).await?;
        stage.phase = Phase::Pulled;
        Ok(())
    }

    async fn close_now(self) -> Result<(), Error> {
        let mut stage = self.0.stage.lock().await;
        stage.phase = Phase::Closed;
        stage.image = None;
        let closed = match self.0.container.get() {
            Some(container) => container.close_here().await.map_err(translate),
            None => Ok(()),
        };
        stage.pin = None;
        self.0.task.close();
        closed
    }
}

fn refuse(step: Step, phase: Phase, id: &str) -> Error {
    match step.check(phase, id) {
        Err(error) => error,
        // The phase would allow it, but another call of this cookie is at work.
        Ok(()) => Error::new(
            ErrorKind::OutOfOrder,
            format!("cannot {step} container {id:?}: it is being created"),
        ),
    }
}

fn streams(task: &dyn ContainerTask) -> Streams {
    let sink = |output| match output {
        Output::Null => Sink::Null,
        Output::Stream(writer) => Sink::Writer(writer),
    };
    let (stdout, stderr) = task.logger();
    let stdin = match task.input() {
        Input::Null => Source::Null,
        Input::Stream(reader) => Source::Reader(reader),
    };
    Streams {
        stdin,
        stdout: sink(stdout),
        stderr: sink(stderr),
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
        let container = self.running(Step::Freeze)?;
        let frozen = container.freeze(&ctx.linked(&self.0.life)).await;
        frozen.map_err(|error| self.turned_away(Step::Freeze, ctx, error))
    }

    async fn unfreeze(&self, ctx: &Context) -> Result<(), Error> {
        let container = self.running(Step::Unfreeze)?;
        let thawed = container.thaw(&ctx.linked(&self.0.life)).await;
        thawed.map_err(|error| self.turned_away(Step::Unfreeze, ctx, error))
    }

    /// Whatever the caller's context says: one whose deadline has passed wants the container gone all the more.
    async fn close(&self, _: &Context) -> Result<(), Error> {
        // Whoever holds the stage gives up first.
        self.0.life.cancel();
        self.0.shared.finished(self.clone().close_now()).await
    }

    fn container_options(&self) -> Box<dyn Any + Send> {
        let plan = self.plan();
        Box::new(ContainerOptions {
            config: plan.config.clone(),
            network: plan.network.clone(),
            labels: plan.labels.clone(),
            init: plan.init,
        })
    }

    fn change_container_options(&self, change: &mut dyn FnMut(&mut dyn Any)) -> Result<(), Error> {
        let Ok(stage) = self.0.stage.try_lock() else {
            return Err(refuse(Step::ChangeOptions, Phase::Created, &self.0.id));
        };
        Step::ChangeOptions.check(stage.phase, &self.0.id)?;
        let mut plan = self.plan();
        let mut options = ContainerOptions {
            config: plan.config.clone(),
            network: plan.network.clone(),
            labels: plan.labels.clone(),
            init: plan.init,
        };
        change(&mut options);
        let ContainerOptions {
            config,
            network,
            labels,
            init,
        } = options;
        (plan.config, plan.network, plan.labels, plan.init) = (config, network, labels, init);
        // These say what is whose; only the engine knows that.
        plan.labels.retain(|name, _| !name.starts_with(label::OWN));
        Ok(())
    }
}

impl fmt::Debug for ContainerdCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerdCookie")
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}
