//! Growing pauses between the tries of the same work.

use std::time::Duration;

/// Pauses that double up to a limit.
#[derive(Debug, Clone)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    /// Pauses from `first` to `longest`.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// Returns the pause before the next try.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        pause
    }

    /// Waits for the pause before the next try.
    ///
    /// # Cancellation
    /// Safe to drop; the pause counts as taken.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let ms = Duration::from_millis;
        let mut pauses = Pauses::new(ms(3), ms(10));
        let pauses: Vec<_> = (0..5).map(|_| pauses.pause()).collect();
        assert_eq!(pauses, [ms(3), ms(6), ms(10), ms(10), ms(10)]);
        let mut longest = Pauses::new(Duration::MAX, Duration::MAX);
        assert_eq!((longest.pause(), longest.pause()), (Duration::MAX, Duration::MAX));
    }
}
