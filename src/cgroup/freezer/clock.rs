//! How long a container has been frozen, counted by the process that freezes it.
//!
//! Kernels since 6.18 count it themselves (`frozen_usec` in `cgroup.stat.local`). On older kernels, this clock counts
//! from each confirmed freeze to the request that ends it. It does not see freezes by other programs: as soon as one is
//! noticed, the count is given up for good. There is no count either for a container that ran before the clock started.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often the clock has seen the container thawed. If two values are equal, the container did not run in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Turns(u64);

/// The clock of one freezer.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    /// Whether every freeze since the container was created has been counted.
    whole: bool,
    total: Duration,
    since: Option<Instant>,
    turns: Turns,
    /// The container was frozen at the last look, but not by this process.
    strange: bool,
}

impl Clock {
    /// Starts a complete count: nothing of the container has run yet.
    pub(super) fn start(&self) {
        self.lock().whole = true;
    }

    /// The kernel confirmed a freeze by this process. The container may have been frozen before.
    pub(super) fn froze(&self) {
        let mut count = self.lock();
        count.strange = false;
        count.since.get_or_insert_with(Instant::now);
    }

    /// This process is about to request a thaw.
    pub(super) fn thaws(&self) {
        let mut count = self.lock();
        count.strange = false;
        count.stop();
    }

    /// Another program has thawed the container.
    pub(super) fn lost(&self) {
        let mut count = self.lock();
        count.whole = false;
        count.stop();
    }

    /// Records what the kernel reports while no freeze of this process is in effect. If two looks in a row find the
    /// container frozen, another program froze it; the first alone may be a freeze of this process that is just being
    /// confirmed.
    pub(super) fn look(&self, frozen: bool) {
        let mut count = self.lock();
        if count.since.is_some() {
            return;
        }
        count.whole &= !(frozen && count.strange);
        count.strange = frozen;
    }

    /// The turns so far if a freeze of this process is in effect, as far as this process has seen.
    pub(super) fn stands(&self) -> Option<Turns> {
        let count = self.lock();
        count.since.map(|_| count.turns)
    }

    /// The whole time up to now; `None` if some of it was not counted.
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
        // Freezing a frozen container does not start the count anew.
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
    async fn a_freeze_or_thaw_by_another_program_ends_the_count() {
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
