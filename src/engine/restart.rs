//! Whether a container is started again when it has ended: Docker's restart policies, as a pure function.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The pause before the first restart; it doubles from one to the next, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);
/// A run of this length has worked, so that the next pause is the first one again.
const WORKED: Duration = Duration::from_secs(10);

/// Whether a signal is one that people end containers with, so that the restart policy does not start it again. Others, such
/// as SIGHUP, are for programs that go on.
pub(crate) fn is_stop(signal: u32) -> bool {
    const SIGINT: u32 = 2;
    const SIGQUIT: u32 = 3;
    const SIGKILL: u32 = 9;
    const SIGTERM: u32 = 15;

    [SIGINT, SIGQUIT, SIGKILL, SIGTERM].contains(&signal)
}

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

/// How long to wait before a container is started again whose last run took this long. `last` is the pause before that run,
/// if it was a restart.
pub(super) fn pause(took: Duration, last: Option<Duration>) -> Duration {
    match last.filter(|_| took < WORKED) {
        None => FIRST,
        Some(last) => last.saturating_mul(2).clamp(FIRST, LONGEST),
    }
}

impl RestartPolicy {
    /// Whether a container is started again when it has ended with this code; `None` is one that is lost.
    pub(super) fn may_follow(self, code: Option<u32>, restarts: Restarts) -> bool {
        !restarts.is_stopped && self.applies(code, restarts.count)
    }

    /// Whether a container whose last run is over is started when a server starts.
    pub(super) fn at_start(self, code: Option<u32>, restarts: Restarts) -> bool {
        match self {
            Self::Always => true,
            policy => policy.may_follow(code, restarts),
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
        let (mut last, mut pauses) = (None, Vec::new());
        for _ in 0..12 {
            last = Some(pause(Duration::from_secs(1), last));
            pauses.extend(last.map(|pause| pause.as_millis()));
        }
        let doubled = [
            100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000,
        ];
        assert_eq!(pauses, doubled);
        assert_eq!(pause(WORKED, last), FIRST);
    }

    #[test]
    fn a_failure_is_an_exit_code_that_is_not_zero_as_often_as_the_policy_allows() {
        let policy = RestartPolicy::OnFailure { most: Some(2) };
        let follows = |code, count| {
            let is_stopped = false;
            policy.may_follow(code, Restarts { count, is_stopped })
        };
        assert_eq!(
            [
                follows(Some(1), 0),
                follows(None, 1),
                follows(Some(1), 2),
                follows(Some(0), 0)
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
            assert!(!policy.may_follow(Some(137), stopped), "{policy:?}");
        }
    }

    proptest! {
        #[test]
        fn no_pause_is_shorter_than_the_first_or_longer_than_the_longest(
            policy in any_policy(), code in proptest::option::of(0..3_u32), took in 0..20_u64, count in 0..10_u32,
            is_stopped in any::<bool>(), last in proptest::option::of(0..200_u64),
        ) {
            let restarts = Restarts { count, is_stopped };
            let pause = pause(Duration::from_secs(took), last.map(Duration::from_secs));
            prop_assert!((FIRST..=LONGEST).contains(&pause));
            if policy.may_follow(code, restarts) {
                prop_assert!(!is_stopped && policy != RestartPolicy::No);
                prop_assert!(policy.at_start(code, restarts), "what is started again now is started with the server, too");
            }
        }
    }
}
