//! Limits how fast slots are made: a fixed rate, a burst after a pause, and fewer while making them fails.

use std::time::Duration;

use tokio::time::Instant;

/// The rate in the contract, in slots per second.
const PER_SECOND: f64 = 10.0;
/// The burst in the contract: how many slots at once.
const BURST: f64 = 20.0;
/// The first rest after a failure. It doubles with each failure, up to `LONGEST_REST`.
const REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// A token bucket, with one token for each slot.
#[derive(Debug)]
pub(crate) struct Rate {
    tokens: f64,
    at: Instant,
    rest: Duration,
    rests_until: Option<Instant>,
}

impl Rate {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            at: now,
            rest: REST,
            rests_until: None,
        }
    }

    /// Returns how many slots may be made now.
    pub(crate) fn allows(&mut self, now: Instant) -> usize {
        if self.rests_until.is_some_and(|until| now < until) {
            return 0;
        }
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = passed.mul_add(PER_SECOND, self.tokens).min(BURST);
        self.at = now;
        (1..=20).take_while(|n| f64::from(*n) <= self.tokens).count()
    }

    /// Records that `made` slots are being made.
    pub(crate) fn spend(&mut self, made: usize) {
        let made = u32::try_from(made).unwrap_or(u32::MAX);
        self.tokens -= f64::from(made);
    }

    /// Records that a slot was made, and ends the rest.
    pub(crate) fn succeeded(&mut self) {
        self.rest = REST;
        self.rests_until = None;
    }

    /// Records that a slot could not be made, and begins a rest, which is longer each time.
    pub(crate) fn failed(&mut self, now: Instant) {
        // Slots that were begun together fail together, and count as one failure.
        if self.rests_until.is_some_and(|until| now < until) {
            return;
        }
        self.rests_until = Some(now + self.rest);
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn twenty_at_once_then_ten_a_second() {
        let mut rate = Rate::new(Instant::now());
        assert_eq!(rate.allows(Instant::now()), 20);
        rate.spend(20);
        assert_eq!(rate.allows(Instant::now()), 0);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(rate.allows(Instant::now()), 5);
        rate.spend(5);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(rate.allows(Instant::now()), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_followed_by_rests_that_grow_until_one_succeeds() {
        let mut rate = Rate::new(Instant::now());
        let mut rests = Vec::new();
        for _ in 0..3 {
            rate.failed(Instant::now());
            rate.failed(Instant::now());
            let began = Instant::now();
            while rate.allows(Instant::now()) == 0 {
                tokio::time::advance(Duration::from_millis(10)).await;
            }
            rests.push(began.elapsed().as_millis());
        }
        assert_eq!(rests, [100, 200, 400]);
        rate.succeeded();
        rate.failed(Instant::now());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(rate.allows(Instant::now()) > 0);
    }
}
