//! The time that the containerd calls of one life cycle took, some of which run at the same time. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::containerd::Timing;

/// Returns the calls, with the wait beginning only when the start was answered.
pub(super) fn clipped(timings: &[Timing]) -> Vec<Timing> {
    let started = timings
        .iter()
        .find(|timing| timing.call == "Tasks/Start")
        .map(|timing| timing.ended);
    timings
        .iter()
        .map(|timing| match (timing.call, started) {
            ("Tasks/Wait", Some(started)) => Timing {
                began: timing.began.max(started.min(timing.ended)),
                ..*timing
            },
            _ => *timing,
        })
        .collect()
}

/// The time before each call since the last reply, while no other call was under way.
pub(super) fn gaps(timings: &[Timing]) -> Vec<(&'static str, Duration)> {
    let mut sorted = clipped(timings);
    sorted.sort_unstable_by_key(|timing| timing.began);
    let mut reached: Option<Instant> = None;
    let mut gaps = Vec::new();
    for timing in sorted {
        if let Some(reached) = reached {
            gaps.push((timing.call, timing.began.saturating_duration_since(reached)));
        }
        reached = Some(reached.map_or(timing.ended, |reached| reached.max(timing.ended)));
    }
    gaps
}

/// The time during which at least one call was under way.
pub(super) fn union(timings: &[Timing]) -> Duration {
    let mut intervals: Vec<_> = clipped(timings)
        .iter()
        .map(|timing| (timing.began, timing.ended))
        .collect();
    intervals.sort_unstable();
    let mut sum = Duration::ZERO;
    let mut reached: Option<Instant> = None;
    for (began, ended) in intervals {
        let from = reached.map_or(began, |reached| reached.max(began));
        sum += ended.saturating_duration_since(from);
        reached = Some(reached.map_or(ended, |reached| reached.max(ended)));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_calls_at_once_count_once_and_the_wait_from_the_reply_to_the_start() {
        let zero = Instant::now();
        let timing = |call, began: u64, ended: u64| Timing {
            call,
            began: zero + Duration::from_millis(began),
            ended: zero + Duration::from_millis(ended),
        };
        let timings = [
            timing("Tasks/Create", 0, 10),
            timing("Tasks/Start", 15, 20),
            timing("Tasks/Wait", 10, 30),
            timing("Tasks/Delete", 35, 40),
        ];
        assert_eq!(union(&timings), Duration::from_millis(10 + 5 + 10 + 5));
        let overlapping = [timing("a", 0, 10), timing("b", 2, 5), timing("c", 8, 12)];
        assert_eq!(union(&overlapping), Duration::from_millis(12));
        assert_eq!(union(&[]), Duration::ZERO);
    }
}
