//! One task's claim on one container: checks the contract's order and calls the engine.
//!
//! Steps that change anything run on a tracked task that holds the stage. If a caller drops its future, the step is
//! cancelled, and what was created by then is removed, or stays in the cookie for `close` to undo. The same happens when the
//! caller's context ends while an engine takes its time: a call that is out cannot be taken back, and its answer is waited
//! for in the background. Freezing does not wait for the stage.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::sync::Mutex as StageLock;
use tracing::Instrument as _;

use super::container::Container;
use super::create::create;
use super::draft::Draft;
use super::error::{Spent, not_started, translate};
use super::freezer::Freezer;
use super::images::{Hold, Pin};
use super::phase::phase;
use super::plan::Plan;
use super::run::Run;
use super::sampler::Sampler;
use super::shared::{Shared, answered};
use super::start::start;
use super::streams::Streams;
use super::wait::Started;
use crate::Context;
use crate::driver::{
    ContainerTask, Cookie, ErrImageWithVolume, Error, ErrorKind, Phase, Step, WaitResult, host,
};

/// A cookie of the Docker driver.
#[derive(Clone)]
pub(super) struct DockerCookie(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    task: Arc<dyn ContainerTask>,
    id: String,
    draft: Draft,
    /// Whether the task receives measurements.
    takes_stats: bool,
    stage: Arc<StageLock<Stage>>,
    /// Cancelled by a close, so that the step that holds the stage gives up.
    life: Context,
    /// Set once the container exists.
    container: OnceLock<Arc<Container>>,
    /// Set once it was started, so that freezing it takes no lock of the cookie.
    freezer: OnceLock<Freezer>,
    /// Whether the task was asked for its streams, which is possible only once.
    spent: AtomicBool,
}

/// The phase of the cookie, and the objects that it holds in that phase.
#[derive(Debug)]
struct Stage {
    phase: Phase,
    /// The streams of the task, from its first create to its start.
    streams: Option<Streams>,
    /// Keeps the name of the image, while it is pulled or validated, and the image itself until the close.
    hold: Option<Hold>,
    pin: Option<Pin>,
    run: Option<Arc<Run>>,
}

impl DockerCookie {
    pub(super) fn new(
        shared: &Arc<Shared>,
        task: Arc<dyn ContainerTask>,
        plan: Plan,
        takes_stats: bool,
    ) -> Self {
        Self(Arc::new(Inner {
            shared: Arc::clone(shared),
            id: plan.name.to_string(),
            task,
            draft: Draft::new(plan),
            takes_stats,
            stage: Arc::new(StageLock::new(Stage {
                phase: Phase::Fresh,
                streams: None,
                hold: None,
                pin: None,
                run: None,
            })),
            life: shared.life.child(),
            container: OnceLock::new(),
            freezer: OnceLock::new(),
            spent: AtomicBool::new(false),
        }))
    }

    /// The phase of the cookie or, while a step is under way, the phase in which that step began.
    fn phase(&self) -> Phase {
        if let Ok(stage) = self.0.stage.try_lock() {
            return stage.phase;
        }
        match self.0.container.get() {
            _ if self.0.life.check().is_err() => Phase::Closed,
            Some(_) if self.0.freezer.get().is_some() => Phase::Running,
            Some(_) => Phase::Created,
            None => Phase::Valid,
        }
    }

    /// What freezes the container, if `step` may be taken now. Does not block.
    fn running(&self, step: Step) -> Result<&Freezer, Error> {
        if self.0.life.check().is_err() {
            return Err(refuse(step, Phase::Closed, &self.0.id));
        }
        match self.0.freezer.get() {
            Some(freezer) => Ok(freezer),
            None => Err(refuse(step, self.phase(), &self.0.id)),
        }
    }

    /// Freezes or thaws on a task of its own, which comes to its end.
    async fn turn(&self, step: Step, ctx: &Context, is_frozen: bool) -> Result<(), Error> {
        self.0.shared.open()?;
        ctx.check()?;
        let freezer = self.running(step)?.clone();
        let (life, id, caller) = (self.0.life.clone(), self.0.id.clone(), ctx.clone());
        let turning = async move {
            match freezer.turn(&life, &caller, is_frozen).await {
                // A close came in between, so the step came too late.
                None if life.check().is_err() => Err(refuse(step, Phase::Closed, &id)),
                None => Err(caller.check().err().map_or_else(Error::closed, Error::from)),
                Some(turned) => turned.map_err(|failed| match failed.status() {
                    Some(409) => Error::new(ErrorKind::NotFound, failed),
                    _ => translate(failed),
                }),
            }
        };
        let turned = answered(ctx, self.0.shared.finished(turning)).await;
        turned.map_err(|error| self.0.shared.open().err().unwrap_or(error))
    }

    /// Runs a step on its own task. The step is cancelled if the caller drops its future, by the end of `ctx`, and by a
    /// close.
    async fn step<T, F>(&self, ctx: &Context, op: impl FnOnce(Self, Context) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.0.shared.open()?;
        let linked = ctx.linked(&self.0.life);
        let done = self.0.shared.tracked(&linked, |ctx| op(self.clone(), ctx));
        let done = answered(ctx, done).await;
        done.map_err(|error| self.0.shared.or_closed(ctx, error))
    }

    async fn validate_now(self, ctx: Context) -> Result<bool, Error> {
        let mut stage = self.0.stage.lock().await;
        Step::ValidateImage.check(stage.phase, &self.0.id)?;
        ctx.check()?;
        let Shared {
            daemon,
            images,
            config,
            ..
        } = &*self.0.shared;
        let image = self.0.draft.plan().image;
        let hold = images.hold(&ctx, &image).await?;
        let found = daemon.image(&ctx, image.as_given()).await.map_err(translate)?;
        let Some(found) = found else {
            stage.phase = Phase::Missing;
            return Ok(true);
        };
        if !config.image_enable_volume
            && let Some(volume) = found.volumes.first()
        {
            let found = ErrImageWithVolume {
                image: image.to_string(),
                volume: volume.clone(),
            };
            return Err(found.into());
        }
        stage.pin = Some(hold.pin(&ctx, &found.id).await?);
        stage.hold = None;
        stage.phase = Phase::Valid;
        Ok(false)
    }

    async fn pull_now(self, ctx: Context) -> Result<(), Error> {
        let mut stage = self.0.stage.lock().await;
        Step::PullImage.check(stage.phase, &self.0.id)?;
        let Shared { puller, images, .. } = &*self.0.shared;
        let image = self.0.draft.plan().image;
        // Held until the validation that must follow has pinned the image.
        let hold = images.hold(&ctx, &image).await?;
        let pull = puller.pull_for(&ctx, &image, &self.0.task);
        phase("pull", &self.0.id, pull).await?;
        images.changed();
        stage.hold = Some(hold);
        stage.phase = Phase::Pulled;
        Ok(())
    }

    async fn create_now(self, ctx: Context) -> Result<(), Error> {
        let mut stage = self.0.stage.lock().await;
        Step::CreateContainer.check(stage.phase, &self.0.id)?;
        ctx.check()?;
        let wants = match &stage.streams {
            Some(streams) => streams.wants(),
            None => {
                if self.0.spent.swap(true, Ordering::AcqRel) {
                    let id = self.0.id.clone();
                    return Err(Error::new(ErrorKind::OutOfOrder, Spent { id }));
                }
                let streams = Streams::of(&self.0.task, &ctx).await?;
                stage.streams.insert(streams).wants()
            }
        };
        ctx.check()?;
        let plan = self.0.draft.take();
        let created = phase("create", &self.0.id, create(&self.0.shared, plan, wants)).await;
        let container = created.inspect_err(|_| self.0.draft.give_back())?;
        if let Err(why) = ctx.check() {
            // The caller was told that there is none, and may try again. What cannot be removed is the close's to remove.
            if let Err(error) = container.remove().await {
                tracing::warn!(id = self.0.id, error = %crate::chain(&error), "a container came too late, and stays");
                stage.phase = Phase::Created;
                drop(self.0.container.set(container));
            } else {
                self.0.draft.give_back();
            }
            return Err(why.into());
        }
        stage.phase = Phase::Created;
        drop(self.0.container.set(container));
        Ok(())
    }

    async fn run_now(self, ctx: Context, watched: Context) -> Result<Started, Error> {
        let mut stage = self.0.stage.lock().await;
        Step::Run.check(stage.phase, &self.0.id)?;
        ctx.check()?;
        let Some(container) = self.0.container.get() else {
            return Err(refuse(Step::Run, stage.phase, &self.0.id));
        };
        let Shared {
            daemon,
            tracker,
            life,
            grace,
            ..
        } = &*self.0.shared;
        let plan = self.0.draft.plan();
        let wants = stage.streams.as_ref().map(Streams::wants);
        let attached = match wants.filter(|wants| !wants.is_nothing()) {
            Some(wants) => {
                let attached = daemon.attach(&ctx, container.id(), wants).await;
                Some(attached.map_err(translate)?)
            }
            None => None,
        };
        // The container's input would be over if the attachment were given up now.
        let start = async {
            let started = start(daemon, container.id(), *grace).await;
            started.map_err(|failed| not_started(failed, plan.syslog.as_deref()))
        };
        phase("start", &self.0.id, start).await?;
        // From here on nothing fails: the container runs, and is watched.
        stage.phase = Phase::Running;
        let run = Run::new(life);
        let streams = stage.streams.take().zip(attached);
        run.watch(container.watched(), streams, tracker, life);
        stage.run = Some(Arc::clone(&run));
        drop(self.0.freezer.set(Freezer::new(container)));
        let memory_limit = plan.memory_limit();
        if self.0.takes_stats {
            let sampler = Sampler {
                daemon: daemon.clone(),
                id: container.id().to_owned(),
                task: Arc::clone(&self.0.task),
                memory_limit,
                tracker: tracker.clone(),
                life: life.linked(run.ended()),
            };
            tracker.spawn(sampler.run().in_current_span());
        }
        Ok(Started::new(
            Arc::clone(container),
            run,
            memory_limit,
            watched,
            life,
        ))
    }

    async fn close_now(self) -> Result<(), Error> {
        let mut stage = self.0.stage.lock().await;
        stage.phase = Phase::Closed;
        (stage.streams, stage.hold) = (None, None);
        let closed = match self.0.container.get() {
            Some(container) => {
                // A freeze or a thaw under way comes to its end first.
                let _turn = match self.0.freezer.get() {
                    Some(freezer) => Some(freezer.stop().await),
                    None => None,
                };
                let remove = async { container.remove().await.map_err(translate) };
                phase("remove", &self.0.id, remove).await
            }
            None => Ok(()),
        };
        if closed.is_ok()
            && let Some(run) = stage.run.take()
        {
            run.settle(&self.0.shared.life).await;
        }
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
impl Cookie for DockerCookie {
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
        self.turn(Step::Freeze, ctx, true).await
    }

    async fn unfreeze(&self, ctx: &Context) -> Result<(), Error> {
        self.turn(Step::Unfreeze, ctx, false).await
    }

    /// Ignores the caller's context: a caller whose deadline has passed wants the container removed all the more.
    async fn close(&self, _: &Context) -> Result<(), Error> {
        // The step that holds the stage gives up first.
        self.0.life.cancel();
        self.0.shared.finished(self.clone().close_now()).await
    }

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

impl fmt::Debug for DockerCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerCookie")
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}
