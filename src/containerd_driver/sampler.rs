//! Reads the usage of each running container once a second and passes it to its task: one task and one timer for all.
//!
//! ```text
//! follow ──► schedule (by slots of 50 ms) ──► due ──► has it run since then? ──no──► the last reading, as of now ─┐
//!                 ▲                                          │yes                                                 ├─► write_stat
//!                 └───────────── a second later ─────────────┴──────► a new reading ──────────────────────────────┘
//! ```
//!
//! The processes of a container that stayed frozen have done nothing, so nothing of it is read. A container whose
//! processor time has hardly changed has done almost nothing, so only that time is read. Containers whose task takes
//! no measurements are not sampled at all.
//!
//! Each container has its own second, counted from its start, so that a thousand containers are not read in one burst.
//! Each falls into one of twenty slots, so the timer wakes at most twenty times a second. A report is written on a task
//! of its own, so a task that is slow to receive its reports does not delay the reports of others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::stats::stat;
use crate::Context;
use crate::driver::{ContainerTask, Stat, metric};
use crate::engine::{Engine, Run, ThawCount, Usage, WeakRun, still_frozen};

/// How often the contract requires a report.
const PERIOD: Duration = Duration::from_secs(1);
/// The time from the start to the first reading, against which the first report is measured. Not zero, because a start
/// needs the machine for other work, and many containers end before this.
const SETTLE: Duration = Duration::from_millis(50);
/// The resolution of the schedule.
const SLOT: Duration = Duration::from_millis(50);
/// How many times a frozen container is read before its reading is reused: by then, work that a freeze triggers, such
/// as reclaiming memory, is over.
const READ_AT_FIRST: u32 = 3;
/// After this number of reports a frozen container is read again. None of its processes runs, but the kernel may
/// reclaim its memory, and packets may arrive.
const READ_AGAIN: u32 = 30;
/// After this number of reports a container that is not frozen but hardly runs is read again.
const READ_UNMOVED_AGAIN: u32 = 10;

/// Adds containers to the round. Ends with the driver.
#[derive(Debug, Clone)]
pub(super) struct Sampler(mpsc::UnboundedSender<Entry>);

/// A container in the round.
struct Entry {
    run: WeakRun,
    task: Arc<dyn ContainerTask>,
    last: Option<Usage>,
    streak: FrozenStreak,
    /// The number of reports since the last reading in which the container has hardly run.
    unmoved: u32,
    /// The report that is being written. Until it is done, no other report is written.
    writing: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

/// For how many reports a container has been frozen, and since which freeze.
#[derive(Debug, Clone, Copy, Default)]
struct FrozenStreak {
    since: Option<ThawCount>,
    reports: u32,
}

impl FrozenStreak {
    /// Records the current state, and returns whether the last reading is still valid.
    fn holds(&mut self, stands: Option<ThawCount>) -> bool {
        if stands.is_none() || stands != self.since {
            *self = Self {
                since: stands,
                reports: 0,
            };
        }
        let holds =
            stands.is_some() && self.reports >= READ_AT_FIRST && !self.reports.is_multiple_of(READ_AGAIN);
        self.reports = self.reports.wrapping_add(1);
        holds
    }
}

impl Sampler {
    /// Starts the round. It ends with `life`, or when the last [`Sampler`] is dropped.
    pub(super) fn start(engine: &Engine, life: &Context) -> Self {
        let (tx, rx) = mpsc::unbounded_channel();
        let round = Round {
            life: life.child(),
            tracker: engine.tracker().clone(),
            origin: Instant::now(),
            schedule: BTreeMap::new(),
            number: 0,
        };
        engine.tracker().spawn(round.run(rx).in_current_span());
        Self(tx)
    }

    /// Reports to the task until the container ends, its last handle is dropped, or the driver ends.
    pub(super) fn follow(&self, run: &Run, task: &Arc<dyn ContainerTask>) {
        let entry = Entry {
            run: run.downgrade(),
            task: Arc::clone(task),
            last: None,
            streak: FrozenStreak::default(),
            unmoved: 0,
            writing: None,
        };
        // A send fails if the driver has ended; then no reports are needed.
        drop(self.0.send(entry));
    }
}

/// The schedule of all containers.
struct Round {
    life: Context,
    tracker: TaskTracker,
    origin: Instant,
    /// By time, and by a number that distinguishes containers in the same slot.
    schedule: BTreeMap<(Instant, u64), Entry>,
    number: u64,
}

impl Round {
    async fn run(mut self, mut joining: mpsc::UnboundedReceiver<Entry>) {
        let life = self.life.clone();
        loop {
            let next = self.schedule.first_key_value().map(|((due, _), _)| *due);
            let due = async {
                match next {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = life.done() => return,
                joined = joining.recv() => match joined {
                    Some(entry) => self.put(Instant::now() + SETTLE, entry),
                    None => return,
                },
                () = due => self.slot(Instant::now()).await,
            }
        }
    }

    /// Adds an entry to the first slot that is not before `at`.
    fn put(&mut self, at: Instant, entry: Entry) {
        let due = slot_of(self.origin, at);
        self.number += 1;
        self.schedule.insert((due, self.number), entry);
    }

    /// Reports every container that is due.
    async fn slot(&mut self, now: Instant) {
        let later = self.schedule.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut self.schedule, later);
        // A container that has ended, or whose last handle was dropped, is not scheduled again.
        let mut held: Vec<_> = due
            .into_iter()
            .filter_map(|((due, _), entry)| {
                let run = entry.run.upgrade()?;
                run.exit_now().is_none().then_some((due, run, entry))
            })
            .collect();
        let runs: Vec<_> = held.iter().map(|(_, run, _)| run).collect();
        let frozen = still_frozen(&runs);
        for ((due, run, mut entry), stands) in held.drain(..).zip(frozen) {
            if let Some(stat) = entry.read(&run, stands) {
                entry.write(&self.life, &self.tracker, &run, stat);
            }
            // Dropped early: the files of a container are closed with its last handle.
            drop(run);
            // Missed reports are not made up for, and a rate over a very short time would be meaningless.
            let next = (due + PERIOD).max(now + PERIOD / 2);
            self.put(next, entry);
            // A reading takes a large part of the time for which an executor's thread may be blocked.
            tokio::task::yield_now().await;
        }
    }
}

/// The end of the slot that contains a moment.
fn slot_of(origin: Instant, at: Instant) -> Instant {
    let slots = at
        .saturating_duration_since(origin)
        .as_nanos()
        .div_ceil(SLOT.as_nanos());
    // More than six years of slots do not fit; then the moment itself is used.
    u32::try_from(slots).map_or(at, |slots| origin + SLOT * slots)
}

impl Entry {
    /// A report, if there is an earlier reading to measure it against.
    fn read(&mut self, run: &Run, stands: Option<ThawCount>) -> Option<Stat> {
        let holds = self.streak.holds(stands);
        let now = match self.last.filter(|_| holds) {
            Some(last) => last.still(Instant::now()),
            None => match self.unmoved(run, stands) {
                Some(now) => now,
                // If the container has ended, its reports end elsewhere. After any other failure, the reading is
                // retried a second later.
                None => run.usage().ok()?,
            },
        };
        let before = self.last.replace(now)?;
        let mut report = stat(&before, &now);
        let reclaimed = run.reclaimed();
        report
            .metrics
            .extend(reclaimed.map(|back| (metric::MEM_RECLAIMED.to_owned(), back.bytes)));
        Some(report)
    }

    /// The last reading as of now, if the container has hardly run since. Limited in number, because other programs may
    /// have changed the values.
    fn unmoved(&mut self, run: &Run, stands: Option<ThawCount>) -> Option<Usage> {
        let due = stands.is_some() || self.unmoved >= READ_UNMOVED_AGAIN;
        let now = self
            .last
            .filter(|_| !due)
            .and_then(|last| run.usage_if_unmoved(&last));
        self.unmoved = if now.is_some() { self.unmoved + 1 } else { 0 };
        now
    }

    /// Passes a report to the task, unless the task is still receiving the previous one.
    fn write(&mut self, life: &Context, tracker: &TaskTracker, run: &Run, stat: Stat) {
        if self
            .writing
            .as_ref()
            .is_some_and(|writing| !writing.is_finished())
        {
            return;
        }
        let (task, ctx, ended) = (Arc::clone(&self.task), life.child(), run.wait_exit());
        let write = async move {
            tokio::select! {
                () = task.write_stat(&ctx, stat) => {}
                _ = ended => {}
                _ = ctx.done() => {}
            }
        };
        self.writing = Some(tracker.spawn(write.in_current_span()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_fall_into_the_slot_that_follows_them() {
        let origin = Instant::now();
        let slot = |ms| slot_of(origin, origin + Duration::from_millis(ms)) - origin;
        assert_eq!(slot(0), Duration::ZERO);
        assert_eq!(slot(1), SLOT);
        assert_eq!(slot(50), SLOT);
        assert_eq!(slot(1051), Duration::from_millis(1100));
        // A second later, the slot is the same one of the next second.
        let due = origin + slot(1051);
        assert_eq!(slot_of(origin, due + PERIOD), due + PERIOD);
        let far = origin + Duration::from_secs(10 * 365 * 86_400);
        assert_eq!(slot_of(origin, far), far);
    }

    #[test]
    fn a_frozen_containers_reading_is_kept_and_now_and_then_renewed() {
        let (one, other) = (Some(ThawCount::default()), None);
        let mut streak = FrozenStreak::default();
        assert!(!streak.holds(other) && !streak.holds(other));
        let mut kept: Vec<_> = (0..61).map(|_| streak.holds(one)).collect();
        assert_eq!(
            kept.iter().filter(|kept| !**kept).count(),
            5,
            "three at first, and each thirtieth"
        );
        assert!(!kept[30] && !kept[60] && kept[3] && kept[31]);
        assert!(!streak.holds(other), "thawed");
        kept = (0..4).map(|_| streak.holds(one)).collect();
        assert_eq!(kept, [false, false, false, true], "frozen anew");
    }
}
