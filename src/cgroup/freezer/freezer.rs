//! The freezer of one container, and a request to it that the kernel has not confirmed yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::clock::Clock;
use super::state::{By, Confirmed, Goal, State};
use super::v1::V1;
use super::v2::V2;
use crate::cgroup::error::Error;
use crate::cgroup::paths::Paths;
use crate::pauses::Pauses;

/// How long reading back may block the calling thread.
pub(super) const SPIN: Duration = Duration::from_micros(200);
/// After the spin, how long reading back goes on without sleeping.
const COOPERATE: Duration = Duration::from_millis(2);
/// The longest sleep between two reads.
const LONGEST_SLEEP: Duration = Duration::from_millis(8);
/// The limit for a caller without a deadline. A process that the kernel cannot stop in this time is blocked in a broken
/// device or file system, and will not stop.
const LIMIT: Duration = Duration::from_secs(10);
/// How long to wait until a freeze that was taken back has ended; after that, the kernel ends it without this wait.
const ROLLBACK: Duration = Duration::from_secs(1);

/// The freezer of one container. A clone shares the descriptors.
#[derive(Debug, Clone)]
pub(crate) enum Freezer {
    /// `cgroup.freeze`, in the v2 tree of a unified or hybrid host.
    V2(Arc<V2>),
    /// `freezer.state` of the v1 controller.
    V1(Arc<V1>),
    /// No freezer, for the cgroup at this path: only the runtime's own pause is left.
    None(PathBuf),
}

/// The result of the fast part of a freeze or thaw.
#[derive(Debug)]
#[must_use = "a pending freeze that is dropped is taken back"]
pub(crate) enum Attempt {
    /// Confirmed within the spin.
    Done(Confirmed),
    /// Requested, not confirmed yet.
    Pending(Pending),
}

impl Freezer {
    /// Chooses the freezer of a container. Opens nothing yet.
    ///
    /// # Errors
    /// [`Error::Gone`] if the container no longer has a cgroup.
    pub(crate) fn of(paths: &Paths) -> Result<Self, Error> {
        let with = |dir: &Option<PathBuf>, file| dir.clone().filter(|dir| dir.join(file).exists());
        if let Some(dir) = with(&paths.v2, "cgroup.freeze") {
            Ok(Self::V2(Arc::new(V2::new(dir))))
        } else if let Some(dir) = with(&paths.freezer, "freezer.state") {
            Ok(Self::V1(Arc::new(V1::new(dir))))
        } else if paths.exist() {
            Ok(Self::None(paths.name()))
        } else {
            Err(Error::Gone { path: paths.name() })
        }
    }

    /// Freezes the container; returns at once if it is frozen already. Without a deadline the limit is ten seconds.
    ///
    /// # Errors
    /// [`Error::NotFrozen`] at the deadline, after the request was taken back; [`Error::Gone`].
    ///
    /// # Cancellation
    /// Safe to drop: the request is taken back.
    #[cfg(test)]
    pub(crate) async fn freeze(&self, deadline: Option<Instant>) -> Result<Confirmed, Error> {
        self.reach(Goal::Frozen, deadline).await
    }

    /// Thaws the container; returns at once if it runs already. Without a deadline the limit is ten seconds.
    ///
    /// # Errors
    /// [`Error::NotThawed`] at the deadline; [`Error::Gone`].
    ///
    /// # Cancellation
    /// Safe to drop: the request to thaw remains in effect.
    pub(crate) async fn thaw(&self, deadline: Option<Instant>) -> Result<Confirmed, Error> {
        self.reach(Goal::Thawed, deadline).await
    }

    /// The fast part of a freeze, which returns at most some 200 µs after the write, so that an async function can call
    /// it directly. [`Pending::confirm`] is the rest.
    pub(crate) fn freeze_fast(&self, deadline: Option<Instant>) -> Result<Attempt, Error> {
        self.attempt(Goal::Frozen, deadline)
    }

    /// The fast part of [`Freezer::thaw`].
    pub(crate) fn thaw_fast(&self, deadline: Option<Instant>) -> Result<Attempt, Error> {
        self.attempt(Goal::Thawed, deadline)
    }

    /// The state that the kernel reports now.
    pub(crate) fn state(&self) -> Result<State, Error> {
        match self {
            Self::V2(v2) => v2.state(),
            Self::V1(v1) => v1.state(),
            Self::None(_) => Err(self.unsupported()),
        }
    }

    /// Declares that nothing of the container has run yet, so that this freezer's clock misses no freeze except those
    /// by other programs.
    pub(crate) fn count_from_birth(&self) {
        if let Some(clock) = self.clock() {
            clock.start();
        }
    }

    /// How long the container has been frozen in all, as this freezer has counted; `None` if the count is not complete.
    /// Reads the state once, unless a freeze by this freezer is in effect, to notice freezes by other programs.
    pub(crate) fn frozen_time(&self) -> Option<Duration> {
        let clock = self.clock()?;
        if clock.total().is_some() && clock.current_freeze().is_none() {
            clock.observe(self.frozen_now()?);
        }
        clock.total()
    }

    /// Whether the kernel reports the container as frozen now. Does not keep files open for it.
    fn frozen_now(&self) -> Option<bool> {
        match self {
            Self::V2(v2) => v2.frozen_now().ok(),
            Self::V1(v1) => v1.frozen_now().ok(),
            Self::None(_) => None,
        }
    }

    pub(super) fn clock(&self) -> Option<&Clock> {
        match self {
            Self::V2(v2) => Some(v2.clock()),
            Self::V1(v1) => Some(v1.clock()),
            Self::None(_) => None,
        }
    }

    async fn reach(&self, goal: Goal, deadline: Option<Instant>) -> Result<Confirmed, Error> {
        match self.attempt(goal, deadline)? {
            Attempt::Done(confirmed) => Ok(confirmed),
            Attempt::Pending(pending) => pending.confirm().await,
        }
    }

    fn attempt(&self, goal: Goal, deadline: Option<Instant>) -> Result<Attempt, Error> {
        let started = Instant::now();
        let deadline = deadline.unwrap_or_else(|| started + LIMIT);
        // A freeze with no time left is not started. A thaw always is: a container that stays frozen because its caller
        // was late serves nobody.
        if goal == Goal::Frozen && deadline <= started && !self.reached(goal)? {
            return Err(self.too_late(goal, Duration::ZERO));
        }
        self.request(goal)?;
        let mut pending = Pending {
            freezer: self.clone(),
            goal,
            started,
            deadline,
            settled: false,
        };
        // The spin starts at the first read that does not confirm, because the write alone takes 300 µs for a hundred
        // processes.
        let mut spin_until = None;
        loop {
            if pending.reached()? {
                return Ok(Attempt::Done(pending.confirmed(By::Spin)));
            }
            let now = Instant::now();
            if now >= *spin_until.get_or_insert_with(|| deadline.min(now + SPIN)) {
                return Ok(Attempt::Pending(pending));
            }
            thread::yield_now();
        }
    }

    fn request(&self, goal: Goal) -> Result<(), Error> {
        // The clock stops before the write, because the container may run from the write on.
        if goal == Goal::Thawed
            && let Some(clock) = self.clock()
        {
            clock.before_thaw();
        }
        match self {
            Self::V2(v2) => v2.request(goal),
            Self::V1(v1) => v1.request(goal),
            Self::None(_) => Err(self.unsupported()),
        }
    }

    fn reached(&self, goal: Goal) -> Result<bool, Error> {
        match self {
            Self::V2(v2) => v2.reached(goal),
            Self::V1(v1) => v1.reached(goal),
            Self::None(_) => Err(self.unsupported()),
        }
    }

    fn dir(&self) -> &Path {
        match self {
            Self::V2(v2) => v2.dir(),
            Self::V1(v1) => v1.dir(),
            Self::None(dir) => dir,
        }
    }

    fn too_late(&self, goal: Goal, limit: Duration) -> Error {
        let path = self.dir().to_owned();
        match goal {
            Goal::Frozen => Error::NotFrozen { path, limit },
            Goal::Thawed => Error::NotThawed { path, limit },
        }
    }

    fn unsupported(&self) -> Error {
        Error::Unsupported {
            path: self.dir().to_owned(),
            what: "freeze",
            file: "cgroup.freeze and no freezer.state",
        }
    }
}

/// A freeze or thaw that the kernel has not confirmed yet. Owns everything that it needs, so it can move to another
/// task. If it is dropped before it is confirmed, a freeze is taken back.
#[derive(Debug)]
#[must_use = "a pending freeze that is dropped is taken back"]
pub(crate) struct Pending {
    freezer: Freezer,
    goal: Goal,
    started: Instant,
    deadline: Instant,
    settled: bool,
}

impl Pending {
    /// Waits for the kernel until the deadline of the attempt.
    ///
    /// # Errors
    /// [`Error::NotFrozen`] or [`Error::NotThawed`] at the deadline, after a freeze was taken back; [`Error::Gone`].
    ///
    /// # Cancellation
    /// Safe to drop: a freeze is taken back.
    pub(crate) async fn confirm(mut self) -> Result<Confirmed, Error> {
        if self.wait(self.deadline).await? {
            return Ok(self.confirmed(By::Poll));
        }
        let error = self
            .freezer
            .too_late(self.goal, self.deadline.saturating_duration_since(self.started));
        if self.goal == Goal::Frozen {
            self.request(Goal::Thawed)?;
            self.goal = Goal::Thawed;
            // If the cgroup stays frozen now, a cgroup above it is frozen; the request made here is withdrawn either
            // way.
            self.wait(Instant::now() + ROLLBACK).await?;
        }
        Err(error)
    }

    /// Reads the state until the goal is reached (`true`) or the time `until` has come.
    async fn wait(&mut self, until: Instant) -> Result<bool, Error> {
        let cooperate_until = Instant::now() + COOPERATE;
        let mut pauses = Pauses::new(Duration::from_millis(1), LONGEST_SLEEP);
        loop {
            if self.reached()? {
                return Ok(true);
            }
            let now = Instant::now();
            if now >= until {
                return Ok(false);
            }
            if now < cooperate_until {
                thread::yield_now();
                tokio::task::yield_now().await;
            } else {
                sleep(pauses.pause().min(until - now)).await;
                if matches!(self.freezer, Freezer::V1(_)) {
                    self.request(self.goal)?;
                }
            }
        }
    }

    fn request(&mut self, goal: Goal) -> Result<(), Error> {
        let requested = self.freezer.request(goal);
        self.settle_if_gone(&requested);
        requested
    }

    fn reached(&mut self) -> Result<bool, Error> {
        let reached = self.freezer.reached(self.goal);
        self.settle_if_gone(&reached);
        reached
    }

    /// If the cgroup no longer exists, there is nothing to take back.
    fn settle_if_gone<T>(&mut self, seen: &Result<T, Error>) {
        self.settled |= matches!(seen, Err(error) if error.is_gone());
    }

    fn confirmed(&mut self, by: By) -> Confirmed {
        self.settled = true;
        if self.goal == Goal::Frozen
            && let Some(clock) = self.freezer.clock()
        {
            clock.freeze_confirmed();
        }
        Confirmed {
            took: self.started.elapsed(),
            by,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.settled || self.goal == Goal::Thawed {
            return;
        }
        if let Err(error) = self.freezer.request(Goal::Thawed) {
            tracing::warn!(%error, "cannot take back a freeze that was dropped before it was confirmed");
        }
    }
}
