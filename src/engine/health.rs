//! The health of a container: how it is checked, and what follows from the results. Pure.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// How many results are remembered, as in Docker.
const REMEMBERED: usize = 5;
/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// The code of a probe that has not ended by itself.
pub(super) const NO_CODE: i64 = -1;

/// How the health of a container is checked. A time of zero is Docker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HealthCheck {
    /// The program that is executed in the container, and its arguments. Exit code 0 is healthy.
    pub(crate) command: Vec<String>,
    /// The time between two probes.
    pub(crate) interval: Duration,
    /// How long a probe may take.
    pub(crate) timeout: Duration,
    /// How many probes in a row fail until the container is unhealthy.
    pub(crate) retries: u32,
    /// For how long after the start of a run failures do not count, until the first success.
    pub(crate) start_period: Duration,
    /// The time between two probes in that period.
    pub(crate) start_interval: Duration,
}

fn or(given: Duration, default: Duration) -> Duration {
    match given.is_zero() {
        true => default,
        false => given,
    }
}

impl HealthCheck {
    /// How long a probe may take.
    pub(super) fn timeout(&self) -> Duration {
        or(self.timeout, INTERVAL)
    }

    /// The time until the next probe of a run that was started so long ago.
    pub(super) fn until_next(&self, status: HealthStatus, since_start: Duration) -> Duration {
        match status {
            HealthStatus::Starting if since_start < self.start_period => {
                or(self.start_interval, START_INTERVAL)
            }
            _ => or(self.interval, INTERVAL),
        }
    }

    fn retries(&self) -> u32 {
        match self.retries {
            0 => RETRIES,
            retries => retries,
        }
    }
}

/// What is known of the health of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthStatus {
    /// No probe has succeeded yet, and not enough have failed.
    Starting,
    /// The last probes have succeeded, or not enough have failed since.
    Healthy,
    /// Too many probes in a row have failed.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) started_at: SystemTime,
    pub(crate) ended_at: SystemTime,
    /// The exit code; -1 if it has none.
    pub(crate) code: i64,
    /// What it has written, as far as it is kept.
    pub(crate) output: String,
}

/// The health of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) status: HealthStatus,
    /// How many probes in a row have failed.
    pub(crate) failures: u32,
    /// The last results, oldest first.
    pub(crate) probes: VecDeque<Probe>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            status: HealthStatus::Starting,
            failures: 0,
            probes: VecDeque::new(),
        }
    }
}

impl Health {
    /// Adds a result. `since_start` is when the probe began, counted from the start of the run. Returns the new status, if it is
    /// another one than before.
    pub(super) fn note(
        &mut self,
        check: &HealthCheck,
        probe: Probe,
        since_start: Duration,
    ) -> Option<HealthStatus> {
        let before = self.status;
        if probe.code == 0 {
            (self.failures, self.status) = (0, HealthStatus::Healthy);
        } else if before != HealthStatus::Starting || since_start >= check.start_period {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= check.retries() {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.probes.push_back(probe);
        while self.probes.len() > REMEMBERED {
            self.probes.pop_front();
        }
        (self.status != before).then_some(self.status)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn probe(code: i64) -> Probe {
        Probe {
            started_at: UNIX_EPOCH,
            ended_at: UNIX_EPOCH,
            code,
            output: String::new(),
        }
    }

    fn check(retries: u32, start_period: u64) -> HealthCheck {
        HealthCheck {
            retries,
            start_period: Duration::from_secs(start_period),
            ..HealthCheck::default()
        }
    }

    #[test]
    fn failures_count_after_the_start_period_or_the_first_success() {
        let check = check(2, 10);
        let mut health = Health::default();
        let mut note = |code, at| health.note(&check, probe(code), Duration::from_secs(at));
        assert_eq!([note(1, 1), note(1, 2), note(1, 3)], [None; 3]);
        assert_eq!(note(0, 4), Some(HealthStatus::Healthy));
        assert_eq!(note(0, 5), None, "no change");
        assert_eq!([note(1, 6), note(1, 7)], [None, Some(HealthStatus::Unhealthy)]);
        assert_eq!(note(0, 8), Some(HealthStatus::Healthy));
        assert_eq!((health.probes.len(), health.failures), (REMEMBERED, 0));
    }

    #[test]
    fn probes_are_closer_in_the_start_period() {
        let second = Duration::from_secs;
        let check = HealthCheck {
            interval: second(7),
            start_interval: second(1),
            ..check(0, 10)
        };
        let next = |status, at| check.until_next(status, second(at));
        assert_eq!(next(HealthStatus::Starting, 9), second(1));
        assert_eq!(next(HealthStatus::Starting, 10), second(7));
        assert_eq!(next(HealthStatus::Healthy, 9), second(7));
        let bare = HealthCheck::default();
        assert_eq!(bare.until_next(HealthStatus::Starting, second(0)), INTERVAL);
        assert_eq!((bare.timeout(), bare.retries()), (INTERVAL, RETRIES));
    }

    proptest! {
        #[test]
        fn a_success_is_always_healthy_and_only_enough_failures_in_a_row_are_not(
            codes in proptest::collection::vec(0..2_i64, 1..40), retries in 0..5_u32,
        ) {
            let check = check(retries, 0);
            let mut health = Health::default();
            for (at, code) in codes.iter().enumerate() {
                let before = health.status;
                let told = health.note(&check, probe(*code), Duration::from_secs(1));
                prop_assert_eq!(told.is_some(), health.status != before);
                let failed = codes[..=at].iter().rev().take_while(|code| **code != 0).count();
                let is_unhealthy = failed >= usize::try_from(check.retries()).unwrap();
                prop_assert_eq!(health.status == HealthStatus::Unhealthy, is_unhealthy);
                prop_assert!(*code != 0 || health.status == HealthStatus::Healthy);
            }
        }
    }
}
