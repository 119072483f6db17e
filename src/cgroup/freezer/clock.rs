//! How long a container has been frozen, counted by whoever freezes it.
//!
//! Kernels since 6.18 count it themselves (`frozen_usec` in `cgroup.stat.local`); for all others this is what can be
//! known: from each confirmed freeze to the request that ended it. Somebody else's freezes are not seen here, so the
//! count is given up for good as soon as one is noticed, and nothing is said of a container that ran before this did.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often a container was let go again. Two equal ones enclose no moment in which it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Turns(u64);

/// The clock of one freezer.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    /// Nothing has been missed since the container was made.
    whole: bool,
    total: Duration,
    since: Option<Instant>,
    turns: Turns,
    /// It was seen frozen at the last look, and not by us.
    strange: bool,
}

impl Clock {
    /// Nothing of the container has run yet, so nothing has been missed.
    pub(super) fn start(&self) {
        self.lock().whole = true;
    }

    /// The kernel confirmed a freeze of ours, perhaps of what was frozen already.
    pub(super) fn froze(&self) {
        let mut count = self.lock();
        count.strange = false;
        count.since.get_or_insert_with(Instant::now);
    }

    /// A thaw is about to be requested.
    pub(super) fn thaws(&self) {
        let mut count = self.lock();
        count.strange = false;
        count.stop();
    }

    /// Somebody else has thawed it.
    pub(super) fn lost(&self) {
        let mut count = self.lock();
        count.whole = false;
        count.stop();
    }

    /// What the kernel says while no freeze of ours stands. A second look that finds it frozen all the same means that
    /// somebody else froze it; the first may be a freeze of ours that is just being confirmed.
    pub(super) fn look(&self, frozen: bool) {
        let mut count = self.lock();
        if count.since.is_some() {
            return;
        }
        count.whole &= !(frozen && count.strange);
        count.strange = frozen;
    }

    /// Whether a freeze of ours stands, as far as we did.
    pub(super) fn stands(&self) -> Option<Turns> {
        let count = self.lock();
        count.since.map(|_| count.turns)
    }

    /// All of the time up to now; `None` if some of it cannot be known.
    pub(super) fn total(&self) -> Option<Duration> {
        let count = self.lock();
        let running = count.since.map(|since| since.elapsed()).unwrap_or_default();
        count.whole.then(|| count.total.saturating_add(running))
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn stop(&mut self) {
        if let Some(since) = self.since.take() {
            self.total = self.total.saturating_add(since.elapsed());
            self.turns.0 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn time_counts_from_confirmed_freeze_to_thaw_and_never_twice() {
        let clock = Clock::default();
        clock.start();
        advance(SECOND).await;
        assert_eq!((clock.total(), clock.stands()), (Some(Duration::ZERO), None));
        clock.froze();
        let stands = clock.stands();
        advance(SECOND).await;
        // A freeze of what is frozen begins nothing anew.
        clock.froze();
        advance(SECOND).await;
        assert_eq!((clock.total(), clock.stands()), (Some(2 * SECOND), stands));
        clock.thaws();
        advance(SECOND).await;
        clock.thaws();
        assert_eq!((clock.total(), clock.stands()), (Some(2 * SECOND), None));
        clock.froze();
        advance(SECOND).await;
        assert_eq!(clock.total(), Some(3 * SECOND));
        assert_ne!(clock.stands(), stands, "it ran in between");
    }

    #[tokio::test(start_paused = true)]
    async fn what_began_before_us_is_not_known() {
        let clock = Clock::default();
        clock.froze();
        advance(SECOND).await;
        assert_eq!(clock.total(), None);
        assert!(clock.stands().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_freeze_or_thaw_by_somebody_else_ends_the_count() {
        let thawed = Clock::default();
        thawed.start();
        thawed.froze();
        thawed.lost();
        assert_eq!((thawed.total(), thawed.stands()), (None, None));

        let frozen = Clock::default();
        frozen.start();
        frozen.look(true);
        assert!(frozen.total().is_some(), "it may be ours, about to be confirmed");
        frozen.froze();
        frozen.look(true);
        frozen.thaws();
        frozen.look(true);
        frozen.look(false);
        frozen.look(true);
        assert!(frozen.total().is_some());
        frozen.look(true);
        assert_eq!(frozen.total(), None);
    }
}
