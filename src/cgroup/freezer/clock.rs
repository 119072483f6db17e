//! How long a container has been frozen, counted by the process that freezes it.
//!
//! Kernels since 6.18 count it themselves (`frozen_usec` in `cgroup.stat.local`). On older kernels, this clock counts
//! from each confirmed freeze to the request that ends it. It does not time freezes by other programs; once a freeze or
//! thaw by another program is noticed, the total becomes unknown for good. There is no total either for a container that
//! ran before the clock started.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many freezes by this process have ended, as far as this process has noticed. Equal values mean that this process
/// noticed no thaw in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ThawCount(u64);

/// The clock of one freezer.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    /// Whether the total covers every freeze since the container was created, as far as this process has noticed.
    complete: bool,
    /// The duration of all freezes that have ended.
    total: Duration,
    /// When the kernel confirmed the freeze by this process that is in effect, if there is one.
    frozen_since: Option<Instant>,
    thaws: ThawCount,
    /// The last look found the container frozen without a confirmed freeze by this process.
    unexplained: bool,
}

impl Clock {
    /// Starts a complete count: nothing of the container has run yet.
    pub(super) fn start(&self) {
        self.lock().complete = true;
    }

    /// The kernel confirmed a freeze by this process. The container may have been frozen before.
    pub(super) fn freeze_confirmed(&self) {
        let mut count = self.lock();
        count.unexplained = false;
        count.frozen_since.get_or_insert_with(Instant::now);
    }

    /// This process is about to request a thaw.
    pub(super) fn before_thaw(&self) {
        let mut count = self.lock();
        count.unexplained = false;
        count.stop();
    }

    /// Another program has thawed the container, or its state can no longer be read.
    pub(super) fn thawed_by_other(&self) {
        let mut count = self.lock();
        count.complete = false;
        count.stop();
    }

    /// Records what the kernel reports while no freeze by this process is in effect. If two looks in a row find the
    /// container frozen, another program froze it; the first alone may have found a freeze by this process that is just
    /// being confirmed.
    pub(super) fn observe(&self, frozen: bool) {
        let mut count = self.lock();
        if count.frozen_since.is_some() {
            return;
        }
        count.complete &= !(frozen && count.unexplained);
        count.unexplained = frozen;
    }

    /// Returns the thaw count, or `None` if, as far as known, no freeze by this process is in effect.
    pub(super) fn current_freeze(&self) -> Option<ThawCount> {
        let count = self.lock();
        count.frozen_since.map(|_| count.thaws)
    }

    /// Returns how long the container has been frozen in all up to now, or `None` if the count is not complete.
    pub(super) fn total(&self) -> Option<Duration> {
        let count = self.lock();
        let running = count
            .frozen_since
            .map(|since| since.elapsed())
            .unwrap_or_default();
        count.complete.then(|| count.total.saturating_add(running))
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn stop(&mut self) {
        if let Some(since) = self.frozen_since.take() {
            self.total = self.total.saturating_add(since.elapsed());
            self.thaws.0 += 1;
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
        assert_eq!(
            (clock.total(), clock.current_freeze()),
            (Some(Duration::ZERO), None)
        );
        clock.freeze_confirmed();
        let first = clock.current_freeze();
        advance(SECOND).await;
        // Freezing a frozen container does not start the count anew.
        clock.freeze_confirmed();
        advance(SECOND).await;
        assert_eq!((clock.total(), clock.current_freeze()), (Some(2 * SECOND), first));
        clock.before_thaw();
        advance(SECOND).await;
        clock.before_thaw();
        assert_eq!((clock.total(), clock.current_freeze()), (Some(2 * SECOND), None));
        clock.freeze_confirmed();
        advance(SECOND).await;
        assert_eq!(clock.total(), Some(3 * SECOND));
        assert_ne!(clock.current_freeze(), first, "it ran in between");
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_that_was_never_started_has_no_total() {
        let clock = Clock::default();
        clock.freeze_confirmed();
        advance(SECOND).await;
        assert_eq!(clock.total(), None);
        assert!(clock.current_freeze().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_freeze_or_thaw_by_another_program_ends_the_count() {
        let thawed = Clock::default();
        thawed.start();
        thawed.freeze_confirmed();
        thawed.thawed_by_other();
        assert_eq!((thawed.total(), thawed.current_freeze()), (None, None));

        let frozen = Clock::default();
        frozen.start();
        frozen.observe(true);
        assert!(frozen.total().is_some(), "it may be ours, about to be confirmed");
        frozen.freeze_confirmed();
        frozen.observe(true);
        frozen.before_thaw();
        frozen.observe(true);
        frozen.observe(false);
        frozen.observe(true);
        assert!(frozen.total().is_some());
        frozen.observe(true);
        assert_eq!(frozen.total(), None);
    }
}
