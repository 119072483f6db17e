//! Converts two samples of a container into one report with the contract's metric names. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::daemon::{CpuTime, Sample};
use crate::driver::{Stat, Timestamp, metric};

/// A sample, and what it is measured against.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    /// The processor time of the sample before, or none at the container's start.
    pub(super) before: CpuTime,
    /// The time since then.
    pub(super) passed: Duration,
    pub(super) now: &'a Sample,
    pub(super) at: Timestamp,
    /// The container's own memory limit in bytes. The engine tells the machine's memory if there is none.
    pub(super) memory_limit: Option<u64>,
}

/// The report of a reading. A value that the engine does not tell is absent.
pub(super) fn stat(reading: &Reading<'_>) -> Stat {
    let Reading { before, now, .. } = reading;
    let percent = |of: fn(&CpuTime) -> u64| {
        let spent = of(now.cpu.as_ref()?).saturating_sub(of(before));
        percent(spent, reading.passed)
    };
    let throttling = now.throttling;
    let known = [
        (
            metric::MEM_USAGE,
            now.memory
                .map(|memory| memory.usage.saturating_sub(memory.inactive_file)),
        ),
        (metric::MEM_LIMIT, reading.memory_limit),
        (metric::MEM_PEAK, now.memory.and_then(|memory| memory.peak)),
        (metric::CPU_TOTAL, percent(|cpu| cpu.total)),
        (metric::CPU_USER, percent(|cpu| cpu.user)),
        (metric::CPU_KERNEL, percent(|cpu| cpu.kernel)),
        (metric::CPU_PERIODS, throttling.map(|quota| quota.periods)),
        (metric::CPU_THROTTLED, throttling.map(|quota| quota.throttled)),
        (
            metric::CPU_THROTTLED_TIME,
            throttling.map(|quota| quota.time / 1000),
        ),
        (metric::PIDS, now.pids),
        (metric::NET_RX, now.traffic.map(|traffic| traffic.received)),
        (metric::NET_TX, now.traffic.map(|traffic| traffic.sent)),
        (metric::DISK_READ, now.disk.map(|disk| disk.read)),
        (metric::DISK_WRITE, now.disk.map(|disk| disk.written)),
    ];
    let metrics: BTreeMap<_, _> = known
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
    Stat {
        timestamp: reading.at,
        metrics,
    }
}

/// Nanoseconds of processor time in a time, in whole percent of one core.
fn percent(spent: u64, passed: Duration) -> Option<u64> {
    let passed = passed.as_nanos();
    let hundredfold = u128::from(spent).saturating_mul(100);
    let rounded = hundredfold.saturating_add(passed / 2).checked_div(passed)?;
    u64::try_from(rounded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker_driver::daemon::{Disk, Memory, Throttling, Traffic};

    #[test]
    fn percents_are_of_one_core_and_rounded() {
        let second = Duration::from_secs(1);
        assert_eq!(percent(1_000_000_000, second), Some(100));
        assert_eq!(percent(1_994_999_999, second), Some(199));
        assert_eq!(percent(995_000_000, second), Some(100));
        assert_eq!(percent(4_000_000, second), Some(0));
        assert_eq!(percent(5, Duration::ZERO), None);
    }

    #[test]
    fn a_report_has_what_the_engine_told_and_nothing_else() {
        let now = Sample {
            at: Some(Timestamp::from_unix_ms(5)),
            cpu: Some(CpuTime {
                total: 1_500_000_000,
                user: 1_000_000_000,
                kernel: 500_000_000,
            }),
            throttling: Some(Throttling {
                periods: 4,
                throttled: 1,
                time: 9_000,
            }),
            memory: Some(Memory {
                usage: 100,
                inactive_file: 40,
                peak: None,
            }),
            pids: Some(2),
            traffic: Some(Traffic { received: 1, sent: 2 }),
            disk: Some(Disk { read: 3, written: 4 }),
        };
        let reading = Reading {
            before: CpuTime {
                total: 500_000_000,
                user: 500_000_000,
                kernel: 0,
            },
            passed: Duration::from_secs(2),
            now: &now,
            at: Timestamp::from_unix_ms(5),
            memory_limit: Some(500),
        };
        let told: BTreeMap<String, u64> = [
            ("mem_usage", 60),
            ("mem_limit", 500),
            ("cpu_total", 50),
            ("cpu_user", 25),
            ("cpu_kernel", 25),
            ("cpu_periods", 4),
            ("cpu_throttled", 1),
            ("cpu_throttled_time", 9),
            ("pids", 2),
            ("net_rx", 1),
            ("net_tx", 2),
            ("disk_read", 3),
            ("disk_write", 4),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        assert_eq!(stat(&reading).metrics, told);
        let nothing = Sample::default();
        let reading = Reading {
            now: &nothing,
            memory_limit: None,
            ..reading
        };
        assert!(stat(&reading).metrics.is_empty());
    }
}
