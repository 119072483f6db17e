//! Converts two readings of a container's usage into one report with the contract's metric names. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::driver::{Stat, Timestamp, metric};
use crate::engine::Usage;

/// The report for `now`, with rates since `before`. A value that this machine does not provide is absent.
pub(crate) fn stat(before: &Usage, now: &Usage) -> Stat {
    let rates = now.since(before);
    let sample = &now.cgroup;
    let memory = sample.memory;
    let throttling = sample.throttling;
    let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let known = [
        (metric::MEM_USAGE, memory.map(|memory| memory.usage)),
        (metric::MEM_LIMIT, memory.and_then(|memory| memory.limit)),
        (metric::MEM_PEAK, memory.and_then(|memory| memory.peak)),
        (metric::OOM_KILLS, sample.oom_kills),
        (metric::CPU_TOTAL, percent(rates.cpu_total)),
        (metric::CPU_USER, percent(rates.cpu_user)),
        (metric::CPU_KERNEL, percent(rates.cpu_kernel)),
        (metric::CPU_PERIODS, throttling.map(|quota| quota.periods)),
        (metric::CPU_THROTTLED, throttling.map(|quota| quota.throttled)),
        (metric::CPU_THROTTLED_TIME, throttling.map(|quota| quota.time)),
        (metric::PIDS, sample.pids),
        (metric::FROZEN_TIME, now.frozen.map(microseconds)),
        (metric::PSI_CPU_SOME, percent(rates.stalled_on_cpu.some)),
        (metric::PSI_CPU_FULL, percent(rates.stalled_on_cpu.full)),
        (metric::PSI_MEM_SOME, percent(rates.stalled_on_memory.some)),
        (metric::PSI_MEM_FULL, percent(rates.stalled_on_memory.full)),
        (metric::PSI_IO_SOME, percent(rates.stalled_on_io.some)),
        (metric::PSI_IO_FULL, percent(rates.stalled_on_io.full)),
        (metric::NET_RX, now.network.map(|network| network.rx)),
        (metric::NET_TX, now.network.map(|network| network.tx)),
        (metric::DISK_READ, sample.disk.map(|disk| disk.read)),
        (metric::DISK_WRITE, sample.disk.map(|disk| disk.written)),
    ];
    let metrics: BTreeMap<_, _> = known
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
    Stat {
        timestamp: Timestamp::now(),
        metrics,
    }
}

/// Rounds to whole percent, the contract's unit.
fn percent(hundredths: Option<u64>) -> Option<u64> {
    hundredths.map(|hundredths| hundredths.saturating_add(50) / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_rounded_and_not_cut() {
        assert_eq!(percent(Some(9950)), Some(100));
        assert_eq!(percent(Some(9949)), Some(99));
        assert_eq!(percent(Some(0)), Some(0));
        assert_eq!(percent(None), None);
    }
}
