//! Freezing and thawing: through the kernel's freezer in microseconds, through containerd where there is none.
//!
//! One mechanism owns the state: after a direct freeze containerd still reports RUNNING and its Resume fails, so the
//! two are never mixed on one container. Whether a container is frozen is read from the kernel, not remembered.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::run::Run;
use super::stage::{Phase, Stage};
use crate::cgroup::{Attempt, Freezer, Pending};
use crate::containerd::TaskStatus;
use crate::{Context, Interrupted};

/// The state that the container is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Toward {
    Frozen,
    Thawed,
}

impl Toward {
    fn step(self) -> Step {
        match self {
            Self::Frozen => Step::Freeze,
            Self::Thawed => Step::Thaw,
        }
    }
}

impl Run {
    /// Stops every process of the container, and returns when the kernel confirms it. Idempotent. A freeze that cannot
    /// be confirmed before the deadline is rolled back, and the container keeps running and is usable.
    ///
    /// # Cancellation
    /// Safe to drop: a freeze that was not confirmed is rolled back.
    pub(crate) async fn freeze(&self, ctx: &Context) -> Result<()> {
        self.turn(ctx, Toward::Frozen).await
    }

    /// Lets the processes of the container continue. Idempotent.
    ///
    /// # Cancellation
    /// As for [`Self::freeze`].
    pub(crate) async fn thaw(&self, ctx: &Context) -> Result<()> {
        self.turn(ctx, Toward::Thawed).await
    }

    async fn turn(&self, ctx: &Context, toward: Toward) -> Result<()> {
        if toward == Toward::Thawed {
            self.idle_ends();
        }
        let began = Instant::now();
        let turned = self.turn_now(ctx, toward).await;
        if turned.is_ok() {
            let (metrics, took) = (self.deps().metrics(), began.elapsed());
            match toward {
                Toward::Frozen => {
                    metrics.froze(took);
                    self.idle_begins();
                }
                Toward::Thawed => metrics.thawed(took),
            }
        }
        turned
    }

    async fn turn_now(&self, ctx: &Context, toward: Toward) -> Result<()> {
        // A thaw is always begun: a container must not stay frozen because its caller was late.
        if toward == Toward::Frozen {
            ctx.check().at(toward.step(), self.id())?;
        }
        let mut begun = None;
        // In the common case the lock is free and the kernel confirms within the spin: no task, no timer.
        if !matches!(self.freezer(), Freezer::None(_))
            && let Ok(stage) = Arc::clone(self.stage()).try_lock_owned()
        {
            self.must_run(stage.phase, toward)?;
            match self.attempt(ctx, toward)? {
                Attempt::Done(_) => return Ok(()),
                Attempt::Pending(pending) => begun = Some((stage, pending)),
            }
        }
        let this = self.clone();
        let slowly = move |ctx: Context| async move { this.turn_slowly(&ctx, toward, begun).await };
        self.deps().tracked(ctx, slowly).await
    }

    /// The slow path, on a task that holds the stage until the kernel has confirmed, or the freeze is rolled back.
    async fn turn_slowly(
        &self,
        ctx: &Context,
        toward: Toward,
        begun: Option<(OwnedMutexGuard<Stage>, Pending)>,
    ) -> Result<()> {
        let step = toward.step();
        let (_stage, pending) = match begun {
            Some(begun) => begun,
            None => {
                let stage = ctx
                    .run(Arc::clone(self.stage()).lock_owned())
                    .await
                    .at(step, self.id())?;
                self.must_run(stage.phase, toward)?;
                if matches!(self.freezer(), Freezer::None(_)) {
                    return self.turn_by_containerd(ctx, toward).await;
                }
                match self.attempt(ctx, toward)? {
                    Attempt::Done(_) => return Ok(()),
                    Attempt::Pending(pending) => (stage, pending),
                }
            }
        };
        // The freezer enforces the deadline: it rolls the freeze back, and reads from the kernel that it did.
        tokio::select! {
            biased;
            confirmed = pending.confirm() => confirmed.map(drop).at(step, self.id()),
            () = ctx.cancelled() => Err(Interrupted::Cancelled).at(step, self.id()),
        }
    }

    fn attempt(&self, ctx: &Context, toward: Toward) -> Result<Attempt> {
        let attempt = match toward {
            Toward::Frozen => self.freezer().freeze_fast(ctx.deadline()),
            Toward::Thawed => self.freezer().thaw_fast(ctx.deadline()),
        };
        attempt.at(toward.step(), self.id())
    }

    /// For containers without an accessible freezer: some milliseconds, through containerd and the runtime.
    async fn turn_by_containerd(&self, ctx: &Context, toward: Toward) -> Result<()> {
        let tasks = self.deps().session.tasks();
        let status = tasks
            .get(ctx, self.id())
            .await
            .at(toward.step(), self.id())?
            .status;
        match (toward, status) {
            (Toward::Frozen, TaskStatus::Running) => tasks.pause(ctx, self.id()).await,
            (Toward::Thawed, TaskStatus::Paused | TaskStatus::Pausing) => tasks.resume(ctx, self.id()).await,
            // It is in that state already, or it has ended, which the exit watch reports.
            _ => Ok(()),
        }
        .at(toward.step(), self.id())
    }

    /// Thaws a killed container, if its processes cannot end otherwise.
    pub(super) async fn release_for_kill(&self, ctx: &Context) -> Result<()> {
        let thawed = if matches!(self.freezer(), Freezer::None(_)) {
            self.turn_by_containerd(ctx, Toward::Thawed).await
        } else {
            self.freezer()
                .thaw(ctx.deadline())
                .await
                .map(drop)
                .at(Step::Thaw, self.id())
        };
        match thawed {
            // The killed processes are gone already.
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            other => other,
        }
    }

    fn must_run(&self, phase: Phase, toward: Toward) -> Result<()> {
        let refuse = |why: &'static str| Err(Error::new(toward.step(), self.id(), Kind::OutOfOrder, why));
        match phase {
            Phase::Ready => refuse("it has not been started"),
            Phase::Over => refuse("it is closed"),
            // A process that has ended stays in its cgroup until its shim reaps it, and such a cgroup may never be
            // reported as frozen.
            Phase::Running if self.exit_now().is_some() || self.alive().now() == Some(false) => {
                Err(self.ended(toward))
            }
            Phase::Running => Ok(()),
        }
    }

    fn ended(&self, toward: Toward) -> Error {
        Error::new(toward.step(), self.id(), Kind::NotFound, "its process has ended")
    }
}
