//! When to retry: random exponential back-off between two delays, with a bounded number of tries.
//!
//! A try is one whole attempt at the operation, and nothing within a try is retried. A pull's try ends with the first
//! request that fails at every host that could serve it (a connection that cannot be made or breaks, a 5xx, a 429), so
//! without a policy one failed request is a failed pull. Three things are not tries and are not counted: the answer to
//! a challenge for a login, another host of the same registry, and a transfer that continues where it broke, as long as
//! new bytes arrive in between. The next try fetches nothing that is here already.
//!
//! The schedule is pure: the caller provides the clock and the random numbers ([`dice`] is enough).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, ErrorKind};

/// The value of [`BackOffConfig::max_retries`] that sets no bound.
pub const RETRY_FOREVER: u64 = u64::MAX;

/// Decides whether an error is worth another try: returns a short reason for logs and metrics if it is, else `None`. A
/// checker that panics, or does not answer within a second, counts as `None`.
pub type RetryErrorChecker = Arc<dyn Fn(&Error) -> Option<String> + Send + Sync>;

/// The checker that retries every error that [`Error::is_retryable`] accepts; the reason is the error's kind.
#[must_use]
pub fn retry_transient() -> RetryErrorChecker {
    Arc::new(|error| error.is_retryable().then(|| error.kind().to_string()))
}

/// A retry policy. The default never retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackOffConfig {
    /// Tries after the first one; 0 allows none, [`RETRY_FOREVER`] sets no bound.
    pub max_retries: u64,
    /// The length of a slot in milliseconds: before the n-th retry, the random part of the delay is at most 2ⁿ - 1
    /// slots.
    #[serde(rename = "interval_msec")]
    pub interval: u64,
    /// The longest delay, in milliseconds; 0 sets no bound.
    #[serde(rename = "max_delay_msec")]
    pub max_delay: u64,
    /// The shortest delay, in milliseconds.
    #[serde(rename = "min_delay_msec")]
    pub min_delay: u64,
}

impl BackOffConfig {
    /// Fails if the shortest delay is longer than the longest.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::InvalidConfig`].
    pub fn check(&self) -> Result<(), Error> {
        if self.max_delay != 0 && self.min_delay > self.max_delay {
            let text = format!(
                "the retry policy's minimum delay of {} ms is above its maximum of {} ms",
                self.min_delay, self.max_delay
            );
            return Err(Error::new(ErrorKind::InvalidConfig, text));
        }
        Ok(())
    }

    /// The shortest and the longest delay, in milliseconds, before retry number `retry`, counted from 1.
    #[must_use]
    pub fn bounds(&self, retry: u64) -> (u64, u64) {
        let slots = match u32::try_from(retry) {
            Ok(n @ 0..=63) => (1u64 << n) - 1,
            _ => u64::MAX,
        };
        let mut spread = slots.saturating_mul(self.interval);
        if self.max_delay != 0 {
            spread = spread.min(self.max_delay.saturating_sub(self.min_delay));
        }
        (self.min_delay, self.min_delay.saturating_add(spread))
    }
}

/// The delays of one operation under a policy.
#[derive(Debug, Clone)]
pub struct BackOff {
    policy: BackOffConfig,
    retries: u64,
}

impl BackOff {
    /// A schedule without retries so far.
    #[must_use]
    pub fn new(policy: BackOffConfig) -> Self {
        Self { policy, retries: 0 }
    }

    /// How long to wait before the next try, or `None` if no try is left. `random` selects the delay between its bounds
    /// and may be any number.
    #[must_use]
    pub fn next_delay(&mut self, random: u64) -> Option<Duration> {
        if self.policy.max_retries != RETRY_FOREVER && self.retries >= self.policy.max_retries {
            return None;
        }
        self.retries = self.retries.saturating_add(1);
        let (low, high) = self.policy.bounds(self.retries);
        let offset = match (high - low).checked_add(1) {
            Some(choices) => random % choices,
            None => random,
        };
        Some(Duration::from_millis(low + offset))
    }
}

/// A random number, good enough to spread retries and for nothing else.
#[must_use]
pub fn dice() -> u64 {
    // Each state of the standard library's hasher has its own random keys.
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: BackOffConfig = BackOffConfig {
        max_retries: 5,
        interval: 100,
        max_delay: 1000,
        min_delay: 50,
    };

    #[test]
    fn the_spread_doubles_until_the_longest_delay() {
        let bounds: Vec<_> = (1..=5).map(|retry| POLICY.bounds(retry)).collect();
        assert_eq!(bounds, [(50, 150), (50, 350), (50, 750), (50, 1000), (50, 1000)]);
    }

    #[test]
    fn tries_are_bounded() {
        let mut schedule = BackOff::new(POLICY);
        let delays = std::iter::from_fn(|| schedule.next_delay(0)).count();
        assert_eq!(delays, 5);
        assert_eq!(BackOff::new(BackOffConfig::default()).next_delay(0), None);
    }

    #[test]
    fn an_impossible_policy_is_refused() {
        let policy = BackOffConfig {
            min_delay: 2000,
            ..POLICY
        };
        assert_eq!(
            policy.check().unwrap_err().report(),
            "the retry policy's minimum delay of 2000 ms is above its maximum of 1000 ms"
        );
        assert!(POLICY.check().is_ok());
    }

    #[test]
    fn the_names_are_those_of_the_original() {
        let json =
            r#"{"max_retries": 5, "interval_msec": 100, "max_delay_msec": 1000, "min_delay_msec": 50}"#;
        assert_eq!(serde_json::from_str::<BackOffConfig>(json).unwrap(), POLICY);
    }

    #[test]
    fn transient_errors_are_retried_with_their_kind_as_reason() {
        let checker = retry_transient();
        assert_eq!(checker(&Error::pull("a", None, "reset")).unwrap(), "unavailable");
        assert_eq!(checker(&Error::pull("a", Some(404), "no")), None);
    }

    #[test]
    fn the_dice_do_not_repeat() {
        let thrown: std::collections::BTreeSet<_> = (0..64).map(|_| dice()).collect();
        assert!(thrown.len() > 60, "{thrown:?}");
    }

    proptest! {
        #[test]
        fn no_delay_leaves_its_bounds(
            max_retries: u64, interval: u64, min_delay: u64, max_delay: u64,
            random in prop::collection::vec(any::<u64>(), 1..80),
        ) {
            let policy = BackOffConfig { max_retries, interval, max_delay, min_delay };
            prop_assume!(policy.check().is_ok());
            let mut schedule = BackOff::new(policy);
            for random in random {
                let Some(delay) = schedule.next_delay(random) else { break };
                prop_assert!(delay >= Duration::from_millis(min_delay));
                prop_assert!(max_delay == 0 || delay <= Duration::from_millis(max_delay));
            }
        }
    }
}
