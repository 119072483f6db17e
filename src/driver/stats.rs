//! What a container used, measured once a second, and how a long series is shortened.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The names of the metrics of a [`Stat`], with their units. A metric that cannot be measured on this machine is
/// absent, never 0.
///
/// "Since its start" values count up over the container's whole life. "Since the report before" values cover the time
/// between two reports, usually a second.
pub mod metric {
    /// Bytes of memory that the container may use; absent if it has no limit of its own.
    pub const MEM_LIMIT: &str = "mem_limit";
    /// Bytes of memory in use, without the page cache that the kernel would drop first.
    pub const MEM_USAGE: &str = "mem_usage";
    /// The most bytes of memory that were charged to the container at once since its start, page cache included. On
    /// cgroup v2 since kernel 5.19.
    pub const MEM_PEAK: &str = "mem_peak";
    /// Processes of the container that the kernel killed for lack of memory since its start, even if the container
    /// survived. Since kernel 4.13.
    pub const OOM_KILLS: &str = "oom_kills";
    /// CPU time in user mode since the report before, in percent of one core: 100 is one core busy.
    pub const CPU_USER: &str = "cpu_user";
    /// CPU time in the kernel since the report before, in percent of one core.
    pub const CPU_KERNEL: &str = "cpu_kernel";
    /// All CPU time since the report before, in percent of one core.
    pub const CPU_TOTAL: &str = "cpu_total";
    /// Periods of the container's CPU quota (100 ms) in which it wanted to run, since its start; 0 without a quota.
    pub const CPU_PERIODS: &str = "cpu_periods";
    /// Those periods in which the container was stopped because its quota was used up.
    pub const CPU_THROTTLED: &str = "cpu_throttled";
    /// Microseconds that the container was stopped for that reason since its start, added up over the CPUs.
    pub const CPU_THROTTLED_TIME: &str = "cpu_throttled_time";
    /// Processes and threads now.
    pub const PIDS: &str = "pids";
    /// Microseconds that the container was frozen since its start. Counted by the kernel since 6.18. On older kernels
    /// counted by this driver, from each confirmed freeze to the thaw, and absent once another program has frozen or
    /// thawed the container.
    pub const FROZEN_TIME: &str = "frozen_time";
    /// Percent of the time since the report before in which some process waited for CPU time. This metric and the other
    /// five are the kernel's pressure stall information (PSI): they are absent without a cgroup v2 tree, and with
    /// `psi=0`.
    pub const PSI_CPU_SOME: &str = "psi_cpu_some";
    /// Percent of the time in which all processes that were not idle waited for CPU time. Since kernel 5.13.
    pub const PSI_CPU_FULL: &str = "psi_cpu_full";
    /// Percent of the time in which some process waited for memory.
    pub const PSI_MEM_SOME: &str = "psi_mem_some";
    /// Percent of the time in which all processes that were not idle waited for memory.
    pub const PSI_MEM_FULL: &str = "psi_mem_full";
    /// Percent of the time in which some process waited for disks.
    pub const PSI_IO_SOME: &str = "psi_io_some";
    /// Percent of the time in which all processes that were not idle waited for disks.
    pub const PSI_IO_FULL: &str = "psi_io_full";
    /// Bytes received in the container's own network since its start, loopback left out; absent on the host's network.
    pub const NET_RX: &str = "net_rx";
    /// Bytes sent from the container's own network since its start, loopback left out; absent on the host's network.
    pub const NET_TX: &str = "net_tx";
    /// Bytes read from disks since its start.
    pub const DISK_READ: &str = "disk_read";
    /// Bytes written to disks since its start.
    pub const DISK_WRITE: &str = "disk_write";
    /// Bytes of memory that were reclaimed while the container was frozen, in its whole life; only if that is
    /// configured.
    pub const MEM_RECLAIMED: &str = "mem_reclaimed";
    /// All metric names.
    pub const ALL: [&str; 23] = [
        MEM_LIMIT,
        MEM_USAGE,
        MEM_PEAK,
        MEM_RECLAIMED,
        OOM_KILLS,
        CPU_USER,
        CPU_KERNEL,
        CPU_TOTAL,
        CPU_PERIODS,
        CPU_THROTTLED,
        CPU_THROTTLED_TIME,
        PIDS,
        FROZEN_TIME,
        PSI_CPU_SOME,
        PSI_CPU_FULL,
        PSI_MEM_SOME,
        PSI_MEM_FULL,
        PSI_IO_SOME,
        PSI_IO_FULL,
        NET_RX,
        NET_TX,
        DISK_READ,
        DISK_WRITE,
    ];
}

/// What one container used at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stat {
    /// When it was measured.
    pub timestamp: Timestamp,
    /// Values by name (see [`metric`]); a value that could not be measured is absent.
    pub metrics: BTreeMap<String, u64>,
}

/// A series of measurements, oldest first.
pub type Stats = Vec<Stat>;

/// Shortens a series to at most `max` points: the time from its first to its last point is cut into `max` equal
/// windows, and each window that contains measurements becomes their average. A shorter series is returned unchanged.
///
/// Windows without measurements leave no point, so gaps in time make the result shorter than `max`. A metric is
/// averaged over the points that have it. The series must be sorted by time.
#[must_use]
pub fn decimate(max: usize, stats: Stats) -> Stats {
    if stats.len() <= max {
        return stats;
    }
    let (Some(first), Some(last)) = (stats.first(), stats.last()) else {
        return stats;
    };
    let start = i128::from(first.timestamp.unix_ms());
    let span = i128::from(last.timestamp.unix_ms()) - start;
    let Some(last_window) = max.checked_sub(1) else {
        return Stats::new();
    };
    let window_of = |stat: &Stat| {
        let offset = i128::from(stat.timestamp.unix_ms()) - start;
        // A point on the border belongs to the earlier window.
        let scaled = offset.saturating_mul(i128::try_from(max).unwrap_or(i128::MAX));
        let window = if span <= 0 || scaled <= 0 {
            0
        } else {
            (scaled - 1) / span
        };
        usize::try_from(window).unwrap_or(last_window).min(last_window)
    };
    stats
        .chunk_by(|a, b| window_of(a) == window_of(b))
        .filter_map(average)
        .take(max)
        .collect()
}

fn average(points: &[Stat]) -> Option<Stat> {
    let count = i128::try_from(points.len()).ok().filter(|n| *n > 0)?;
    let moments: i128 = points.iter().map(|p| i128::from(p.timestamp.unix_ms())).sum();
    let mut sums: BTreeMap<&str, (u128, u128)> = BTreeMap::new();
    for (name, value) in points.iter().flat_map(|p| &p.metrics) {
        let (sum, n) = sums.entry(name).or_default();
        *sum += u128::from(*value);
        *n += 1;
    }
    let metrics = sums
        .into_iter()
        .filter_map(|(name, (sum, n))| Some((name.to_owned(), u64::try_from(sum / n).ok()?)));
    Some(Stat {
        timestamp: Timestamp::from_unix_ms(i64::try_from(moments.div_euclid(count)).ok()?),
        metrics: metrics.collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stat(ms: i64, x: u64) -> Stat {
        Stat {
            timestamp: Timestamp::from_unix_ms(ms),
            metrics: BTreeMap::from([("x".to_owned(), x)]),
        }
    }

    fn each_second(n: i64) -> Stats {
        (0..n).map(|i| stat(i * 1000, i.unsigned_abs())).collect()
    }

    #[test]
    fn a_window_becomes_its_average() {
        assert_eq!(
            decimate(2, vec![stat(0, 2), stat(10, 4), stat(90, 10), stat(100, 20)]),
            [stat(5, 3), stat(95, 15)]
        );
    }

    #[test]
    fn a_series_without_gaps_fills_every_window() {
        for n in [240, 300, 480, 700] {
            assert_eq!(decimate(240, each_second(n)).len(), 240, "{n}");
        }
    }

    #[test]
    fn a_large_gap_makes_the_result_shorter() {
        let mut series = each_second(300);
        for late in series.iter_mut().skip(150) {
            late.timestamp = Timestamp::from_unix_ms(late.timestamp.unix_ms() + 1_200_000);
        }
        // 24 windows before the gap and 24 after it. Fn's original finds 49, because its windows are cut to whole
        // nanoseconds and the last point falls outside the last window.
        assert_eq!(decimate(240, series).len(), 48);
    }

    #[test]
    fn a_metric_is_averaged_over_the_points_that_have_it() {
        let mut series = vec![stat(0, 10), stat(1, 30)];
        series.push(Stat {
            timestamp: Timestamp::from_unix_ms(2),
            metrics: BTreeMap::new(),
        });
        assert_eq!(decimate(1, series), [stat(1, 20)]);
    }

    #[test]
    fn a_metric_that_a_window_lacks_is_absent_from_its_point_and_not_zero() {
        let y = |ms, y| Stat {
            timestamp: Timestamp::from_unix_ms(ms),
            metrics: BTreeMap::from([("y".to_owned(), y)]),
        };
        // One metric is known only later, like a frozen time, and one only at first, like a limit.
        let series = vec![stat(0, 2), stat(10, 4), y(90, 6), y(100, 10)];
        assert_eq!(decimate(2, series), [stat(5, 3), y(95, 8)]);
    }

    #[test]
    fn each_metric_has_a_name_of_its_own() {
        let mut names = metric::ALL;
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }

    #[test]
    fn no_points_are_left_of_none_wanted_or_none_given() {
        assert!(decimate(0, each_second(3)).is_empty());
        assert!(decimate(5, Stats::new()).is_empty());
        assert_eq!(decimate(1, vec![stat(7, 1), stat(7, 3)]), [stat(7, 2)]);
    }

    #[test]
    fn a_stat_is_written_with_the_names_of_the_original() {
        assert_eq!(
            serde_json::to_string(&stat(0, 4)).unwrap(),
            r#"{"timestamp":"1970-01-01T00:00:00.000Z","metrics":{"x":4}}"#
        );
    }

    proptest! {
        #[test]
        fn a_decimated_series_is_short_sorted_and_within_its_values(
            max in 0usize..50,
            mut points in prop::collection::vec((0i64..1_000_000, any::<u64>()), 0..200),
        ) {
            points.sort_unstable();
            let series: Stats = points.iter().map(|(ms, x)| stat(*ms, *x)).collect();
            let out = decimate(max, series.clone());
            prop_assert!(out.len() <= max);
            prop_assert!(max == 0 || series.is_empty() || !out.is_empty());
            prop_assert!(out.is_sorted_by_key(|p| p.timestamp));
            let bounds = |s: &Stats| {
                let all: Vec<u64> = s.iter().flat_map(|p| p.metrics.values().copied()).collect();
                (all.iter().min().copied(), all.iter().max().copied())
            };
            if !out.is_empty() {
                prop_assert!(bounds(&out).0 >= bounds(&series).0);
                prop_assert!(bounds(&out).1 <= bounds(&series).1);
            }
            if series.len() <= max {
                prop_assert_eq!(out, series);
            }
        }
    }
}
