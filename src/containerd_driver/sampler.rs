//! Reads once a second what each running container uses, and hands it to its task: one task and one timer for all.
//!
//! ```text
//! follow ──► schedule (by slots of 50 ms) ──► due ──► has it run since then? ──no──► the last reading, as of now ─┐
//!                 ▲                                          │yes                                                 ├─► write_stat
//!                 └───────────── a second later ─────────────┴──────► a new reading ──────────────────────────────┘
//! ```
//!
//! Nothing has run in a container that stood frozen, of which nothing is read, and next to nothing in one whose processor
//! time stands nearly still, of which that alone is read. Only what somebody listens to is here at all.
//!
//! A container keeps its own second, counted from its start, so that a thousand of them are not read in one burst; and
//! as each falls into one of twenty slots, no more than twenty wakings a second come of it. What is written is written on
//! a task of its own for as long as that takes: a host that is slow to take its numbers holds up nobody else's.

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
use crate::engine::{Engine, Run, Turns, Usage, WeakRun, standing};

/// How often the contract wants to know.
const PERIOD: Duration = Duration::from_secs(1);
/// From the start to the first reading, which the first report is measured against. Not at once: a start has better
/// things to do with the machine, and many lives are over by then.
const SETTLE: Duration = Duration::from_millis(50);
/// How fine the schedule is.
const SLOT: Duration = Duration::from_millis(50);
/// A frozen container is read this often until its reading is kept: what a freeze sets going, such as taking its memory
/// back, is over by then.
const READ_AT_FIRST: u32 = 3;
/// After so many reports a frozen container is read again. None of its processes runs, but the kernel may take its memory
/// for others, and packets may arrive.
const READ_AGAIN: u32 = 30;
/// The same for one that is not frozen and of which next to nothing runs.
const READ_UNMOVED_AGAIN: u32 = 10;

/// Takes containers into the round. Ends with the driver.
#[derive(Debug, Clone)]
pub(super) struct Sampler(mpsc::UnboundedSender<Entry>);

/// A container in the round.
struct Entry {
    run: WeakRun,
    task: Arc<dyn ContainerTask>,
    last: Option<Usage>,
    still: Still,
    /// For how many reports it has not run since it was read.
    unmoved: u32,
    /// What is being handed over. Until that is done, no more is.
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
struct Still {
    since: Option<Turns>,
    reports: u32,
}

impl Still {
    /// Notes what is known now, and says whether the last reading still holds.
    fn holds(&mut self, stands: Option<Turns>) -> bool {
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
    /// Begins the round; it ends with `life`, or when nobody can add to it any more.
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

    /// Reports to the task until the container ends, nobody holds it any more, or the driver ends.
    pub(super) fn follow(&self, run: &Run, task: &Arc<dyn ContainerTask>) {
        let entry = Entry {
            run: run.downgrade(),
            task: Arc::clone(task),
            last: None,
            still: Still::default(),
            unmoved: 0,
            writing: None,
        };
        // The driver has ended: nobody wants reports any more.
        drop(self.0.send(entry));
    }
}

/// Who is due when.
struct Round {
    life: Context,
    tracker: TaskTracker,
    origin: Instant,
    /// By time, and by a number that tells those of one slot apart.
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

    /// Puts an entry into the first slot that is not before `at`.
    fn put(&mut self, at: Instant, entry: Entry) {
        let due = slot_of(self.origin, at);
        self.number += 1;
        self.schedule.insert((due, self.number), entry);
    }

    /// Serves everybody who is due.
    async fn slot(&mut self, now: Instant) {
        let later = self.schedule.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut self.schedule, later);
        // One that has ended, or that nobody holds, is not put back.
        let mut held: Vec<_> = due
            .into_iter()
            .filter_map(|((due, _), entry)| {
                let run = entry.run.upgrade()?;
                run.exit_now().is_none().then_some((due, run, entry))
            })
            .collect();
        let runs: Vec<_> = held.iter().map(|(_, run, _)| run).collect();
        let standing = standing(&runs);
        for ((due, run, mut entry), stands) in held.drain(..).zip(standing) {
            if let Some(stat) = entry.read(&run, stands) {
                entry.write(&self.life, &self.tracker, &run, stat);
            }
            // Not held for longer than this: what it has open closes with its last handle.
            drop(run);
            // What was missed is not made up for, and a rate over next to no time says nothing.
            let next = (due + PERIOD).max(now + PERIOD / 2);
            self.put(next, entry);
            // A reading takes a good part of what an executor's thread may be held up for.
            tokio::task::yield_now().await;
        }
    }
}

/// The end of the slot that a moment is in.
fn slot_of(origin: Instant, at: Instant) -> Instant {
    let slots = at
        .saturating_duration_since(origin)
        .as_nanos()
        .div_ceil(SLOT.as_nanos());
    // A schedule of more than six years of slots does not fit, and then the moment itself will do.
    u32::try_from(slots).map_or(at, |slots| origin + SLOT * slots)
}

impl Entry {
    /// A report, if there is a reading to measure it against.
    fn read(&mut self, run: &Run, stands: Option<Turns>) -> Option<Stat> {
        let holds = self.still.holds(stands);
        let now = match self.last.filter(|_| holds) {
            Some(last) => last.still(Instant::now()),
            None => match self.unmoved(run, stands) {
                Some(now) => now,
                // Its end is the end of the reports, and is noticed elsewhere; anything else that cannot be read can be
                // read a second later.
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

    /// The last reading as of now, if next to nothing has run since; not for ever, because others may have changed what it tells.
    fn unmoved(&mut self, run: &Run, stands: Option<Turns>) -> Option<Usage> {
        let due = stands.is_some() || self.unmoved >= READ_UNMOVED_AGAIN;
        let now = self
            .last
            .filter(|_| !due)
            .and_then(|last| run.usage_if_unmoved(&last));
        self.unmoved = if now.is_some() { self.unmoved + 1 } else { 0 };
        now
    }

    /// Hands a report over, unless the one before is still being taken.
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
        // A second later is the same slot of the next second.
        let due = origin + slot(1051);
        assert_eq!(slot_of(origin, due + PERIOD), due + PERIOD);
        let far = origin + Duration::from_secs(10 * 365 * 86_400);
        assert_eq!(slot_of(origin, far), far);
    }

    #[test]
    fn a_frozen_containers_reading_is_kept_and_now_and_then_renewed() {
        let (one, other) = (Some(Turns::default()), None);
        let mut still = Still::default();
        assert!(!still.holds(other) && !still.holds(other));
        let mut kept: Vec<_> = (0..61).map(|_| still.holds(one)).collect();
        assert_eq!(
            kept.iter().filter(|kept| !**kept).count(),
            5,
            "three at first, and each thirtieth"
        );
        assert!(!kept[30] && !kept[60] && kept[3] && kept[31]);
        assert!(!still.holds(other), "thawed");
        kept = (0..4).map(|_| still.holds(one)).collect();
        assert_eq!(kept, [false, false, false, true], "frozen anew");
    }
}
