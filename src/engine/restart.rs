//! Whether a container is started again when it has ended: Docker's restart policies, as a pure function.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The pause before the first restart; it doubles from one to the next, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);
/// A run of this length has worked, so that the next pause is the first one again.
const WORKED: Duration = Duration::from_secs(10);

/// When a container is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When it has failed: its exit code is not 0, or is lost.
    OnFailure {
        /// The most restarts in a row; `None` is no limit.
        most: Option<u32>,
    },
    /// Whenever it has ended, unless a user has stopped it; and when the server starts, even then.
    Always,
    /// Whenever it has ended, unless a user has stopped it.
    UnlessStopped,
}

/// What is known of a container's restarts; on its record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Restarts {
    /// How often it was started again since a user has started it.
    pub(crate) count: u32,
    /// Whether a user has stopped it since then.
    pub(crate) is_stopped: bool,
}

/// How a run ended, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunOver {
    /// `None` if it is lost.
    pub(super) code: Option<u32>,
    /// How long it took.
    pub(super) took: Duration,
}

impl RestartPolicy {
    /// How long to wait before the container is started again; `None` if it is not. `last` is the pause before the run that
    /// is over now, if that was a restart.
    pub(super) fn after(self, over: RunOver, restarts: Restarts, last: Option<Duration>) -> Option<Duration> {
        if restarts.is_stopped || !self.applies(over.code, restarts.count) {
            return None;
        }
        Some(match last.filter(|_| over.took < WORKED) {
            None => FIRST,
            Some(last) => last.saturating_mul(2).clamp(FIRST, LONGEST),
        })
    }

    /// Whether a container whose last run is over is started when a server starts.
    pub(super) fn at_start(self, code: Option<u32>, restarts: Restarts) -> bool {
        match self {
            Self::Always => true,
            policy => !restarts.is_stopped && policy.applies(code, restarts.count),
        }
    }

    fn applies(self, code: Option<u32>, count: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure { most } => code != Some(0) && most.is_none_or(|most| count < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FAILED: RunOver = RunOver {
        code: Some(1),
        took: Duration::from_secs(1),
    };

    fn any_policy() -> impl Strategy<Value = RestartPolicy> {
        prop_oneof![
            Just(RestartPolicy::No),
            proptest::option::of(0..5_u32).prop_map(|most| RestartPolicy::OnFailure { most }),
            Just(RestartPolicy::Always),
            Just(RestartPolicy::UnlessStopped),
        ]
    }

    #[test]
    fn the_pause_doubles_up_to_a_minute_and_begins_anew_after_a_run_that_has_worked() {
        let policy = RestartPolicy::Always;
        let (mut last, mut pauses) = (None, Vec::new());
        for _ in 0..12 {
            last = policy.after(FAILED, Restarts::default(), last);
            pauses.push(last.unwrap().as_millis());
        }
        let doubled = [
            100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000,
        ];
        assert_eq!(pauses, doubled);
        let worked = RunOver {
            took: WORKED,
            ..FAILED
        };
        assert_eq!(policy.after(worked, Restarts::default(), last), Some(FIRST));
    }

    #[test]
    fn a_failure_is_an_exit_code_that_is_not_zero_as_often_as_the_policy_allows() {
        let policy = RestartPolicy::OnFailure { most: Some(2) };
        let after = |code, count| {
            let over = RunOver { code, ..FAILED };
            let restarts = Restarts {
                count,
                is_stopped: false,
            };
            policy.after(over, restarts, None).is_some()
        };
        assert_eq!(
            [
                after(Some(1), 0),
                after(None, 1),
                after(Some(1), 2),
                after(Some(0), 0)
            ],
            [true, true, false, false]
        );
    }

    #[test]
    fn only_always_starts_what_a_user_has_stopped_and_only_with_the_server() {
        let stopped = Restarts {
            count: 0,
            is_stopped: true,
        };
        for (policy, starts) in [
            (RestartPolicy::No, false),
            (RestartPolicy::OnFailure { most: None }, false),
            (RestartPolicy::UnlessStopped, false),
            (RestartPolicy::Always, true),
        ] {
            assert_eq!(policy.at_start(Some(137), stopped), starts, "{policy:?}");
            assert_eq!(policy.after(FAILED, stopped, None), None, "{policy:?}");
        }
    }

    proptest! {
        #[test]
        fn no_pause_is_shorter_than_the_first_or_longer_than_the_longest(
            policy in any_policy(), code in proptest::option::of(0..3_u32), took in 0..20_u64, count in 0..10_u32,
            is_stopped in any::<bool>(), last in proptest::option::of(0..200_u64),
        ) {
            let over = RunOver { code, took: Duration::from_secs(took) };
            let restarts = Restarts { count, is_stopped };
            let pause = policy.after(over, restarts, last.map(Duration::from_secs));
            if let Some(pause) = pause {
                prop_assert!((FIRST..=LONGEST).contains(&pause));
                prop_assert!(!is_stopped && policy != RestartPolicy::No);
                prop_assert!(policy.at_start(code, restarts), "what is started again now is started with the server, too");
            }
        }
    }
}
