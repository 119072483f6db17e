//! Freezes and thaws a container, and believes only what the kernel reads back.
//!
//! ```text
//!            write        read back, sched_yield     read back, yield to the executor    sleep 1..8 ms, read back
//! freeze ──► request ───► spin (200 µs) ───────────► cooperate (2 ms) ─────────────────► poll ──► Confirmed
//!            └──────────── fast, in line ──┘└────────────── Pending: deadline, or dropped ──────► rolled back
//! ```
//!
//! Writing is a request; the processes stop when they next leave the kernel. One process takes some 10 µs, a hundred
//! some 350 µs, so reading back at once is what makes a freeze cheap. The spin ends after [`SPIN`], about what an
//! executor's thread may be held up for; what takes longer goes on by yielding to the executor between the reads, which
//! costs other tasks nothing and still sees a hundred processes stop without having slept. Only then does it sleep. It
//! never waits for the kernel's notification on the file: that is rationed to 100 a second, so it would come up to 10 ms
//! late where a sleep of 1 ms does not.
//!
//! A freeze that is not confirmed in time is taken back before the error is told, and one whose future is dropped is
//! taken back by the drop; otherwise the kernel would freeze the container later, behind everyone's back.
//!
//! The descriptors are opened at the first use and kept. Opening them each time more than doubles the cost: medians of
//! one interleaved run, in µs, unoptimised build, were for one process 17 for the bare write and read-back
//! (`cgroup::Raw`), 20 here and 44 with reopening; for ten 57, 59 and 84; for a hundred, where the kernel's own work
//! rules, 452, 464 and 511. The price is two descriptors per container that was ever frozen. They also keep on meaning
//! *that* cgroup when its name is used again.

mod clock;
#[cfg(feature = "cli")]
mod raw;
mod standing;
mod state;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::clock::Clock;
pub(crate) use self::clock::Turns;
#[cfg(feature = "cli")]
pub(crate) use self::raw::Raw;
pub(crate) use self::standing::standing;
use self::state::Goal;
pub(crate) use self::state::{By, Confirmed, State};
use self::v1::V1;
use self::v2::V2;
use super::error::Error;
use super::paths::Paths;

/// How long the calling thread may be held up by reading back.
pub(super) const SPIN: Duration = Duration::from_micros(200);
/// How long reading back goes on without sleeping after that.
const COOPERATE: Duration = Duration::from_millis(2);
/// The longest sleep between two reads.
const LONGEST_SLEEP: Duration = Duration::from_millis(8);
/// The limit of a caller without a deadline: a process that the kernel cannot stop in this time sits in a broken device
/// or file system, and is not going to stop.
const LIMIT: Duration = Duration::from_secs(10);
/// How long taking a freeze back may last before the kernel is left to it.
const ROLLBACK: Duration = Duration::from_secs(1);

/// The freezer of one container. A clone shares the descriptors.
#[derive(Debug, Clone)]
pub(crate) enum Freezer {
    /// `cgroup.freeze`, in the v2 tree of a unified or hybrid host.
    V2(Arc<V2>),
    /// `freezer.state` of the v1 controller.
    V1(Arc<V1>),
    /// Neither, for the cgroup that is named here: only the runtime's own pause is left.
    None(PathBuf),
}

/// What became of the fast part of a freeze or thaw.
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
    /// [`Error::Gone`] if the container has no cgroup any more.
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

    /// Freezes, or finds it frozen already. Without a deadline the limit is ten seconds.
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

    /// Thaws, or finds it running already. Without a deadline the limit is ten seconds.
    ///
    /// # Errors
    /// [`Error::NotThawed`] at the deadline; [`Error::Gone`].
    ///
    /// # Cancellation
    /// Safe to drop: the request to thaw stands.
    pub(crate) async fn thaw(&self, deadline: Option<Instant>) -> Result<Confirmed, Error> {
        self.reach(Goal::Thawed, deadline).await
    }

    /// The part of a freeze that waits no longer than some 200 µs after the write, for the line of an async
    /// function; [`Pending::confirm`] is the rest.
    pub(crate) fn freeze_fast(&self, deadline: Option<Instant>) -> Result<Attempt, Error> {
        self.attempt(Goal::Frozen, deadline)
    }

    /// The same part of [`Freezer::thaw`].
    pub(crate) fn thaw_fast(&self, deadline: Option<Instant>) -> Result<Attempt, Error> {
        self.attempt(Goal::Thawed, deadline)
    }

    /// What the kernel says now.
    pub(crate) fn state(&self) -> Result<State, Error> {
        match self {
            Self::V2(v2) => v2.state(),
            Self::V1(v1) => v1.state(),
            Self::None(_) => Err(self.unsupported()),
        }
    }

    /// Says that nothing of the container has run yet, so that this freezer sees all of its freezes but those of others.
    pub(crate) fn count_from_birth(&self) {
        if let Some(clock) = self.clock() {
            clock.start();
        }
    }

    /// How long the container has been frozen in all, as this freezer has counted it; `None` if it cannot know. Reads
    /// the state once, unless a freeze of its own stands, to notice those of others.
    pub(crate) fn frozen_time(&self) -> Option<Duration> {
        let clock = self.clock()?;
        if clock.total().is_some() && clock.stands().is_none() {
            clock.look(self.frozen_now()?);
        }
        clock.total()
    }

    /// What the kernel says now, without keeping files open for it.
    fn frozen_now(&self) -> Option<bool> {
        match self {
            Self::V2(v2) => v2.frozen_now().ok(),
            Self::V1(v1) => v1.frozen_now().ok(),
            Self::None(_) => None,
        }
    }

    fn clock(&self) -> Option<&Clock> {
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
        // A freeze without any time left is not even begun. A thaw always is: nobody is served by a container that
        // stays frozen because its caller was late.
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
        // From the first read that disappoints: the write itself takes 300 µs for a hundred processes.
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
        // Before the write: from here on it may run.
        if goal == Goal::Thawed
            && let Some(clock) = self.clock()
        {
            clock.thaws();
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

/// A freeze or thaw that the kernel has not confirmed yet. Owns what it needs, so it may move to a task of its own.
/// Dropped unconfirmed, a freeze is taken back.
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
    /// Waits for the kernel until the deadline that was given at the start.
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
            // A cgroup that stays frozen now is held by one above it; our own request is off either way.
            self.wait(Instant::now() + ROLLBACK).await?;
        }
        Err(error)
    }

    /// Reads until the goal is reached (`true`) or the time has come.
    async fn wait(&mut self, until: Instant) -> Result<bool, Error> {
        let cooperate_until = Instant::now() + COOPERATE;
        let mut pause = Duration::from_millis(1);
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
                sleep(pause.min(until - now)).await;
                pause = (pause * 2).min(LONGEST_SLEEP);
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

    /// A cgroup that is gone needs no taking back.
    fn settle_if_gone<T>(&mut self, seen: &Result<T, Error>) {
        self.settled |= matches!(seen, Err(error) if error.is_gone());
    }

    fn confirmed(&mut self, by: By) -> Confirmed {
        self.settled = true;
        if self.goal == Goal::Frozen
            && let Some(clock) = self.freezer.clock()
        {
            clock.froze();
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
            tracing::warn!(%error, "cannot take back a freeze whose caller is gone");
        }
    }
}
