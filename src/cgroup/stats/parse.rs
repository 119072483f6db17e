//! The data of a sample, and the parsers of the kernel's statistics files. Pure.

use tokio::time::Instant;

use crate::cgroup::files::keyed;

/// Nanoseconds of one `USER_HZ` tick, which is a hundredth of a second on every architecture that containers run on.
const TICK: u64 = 10_000_000;

/// What a container used up to one moment. `None` means that this host does not report the value; it never means zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When reading began.
    pub(crate) at: Instant,
    /// Memory now.
    pub(crate) memory: Option<Memory>,
    /// Processes killed for lack of memory since the start.
    pub(crate) oom_kills: Option<u64>,
    /// CPU time since the start.
    pub(crate) cpu: Option<Cpu>,
    /// How often the quota of CPU time stopped the container since the start.
    pub(crate) throttling: Option<Throttling>,
    /// Processes and threads now.
    pub(crate) pids: Option<u64>,
    /// Disk traffic since the start.
    pub(crate) disk: Option<Disk>,
    /// Time spent waiting for resources that other processes used, since the start.
    pub(crate) pressure: Pressure,
    /// Microseconds that the container was frozen in all, as the kernel counts them (since 6.18).
    pub(crate) frozen: Option<u64>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Memory in use, without the page cache that the kernel would drop first; Docker counts in the same way.
    pub(crate) usage: u64,
    /// The container's own limit.
    pub(crate) limit: Option<u64>,
    /// The highest amount ever charged, page cache included.
    pub(crate) peak: Option<u64>,
}

/// CPU time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// All of it.
    pub(crate) total: u64,
    /// In the program.
    pub(crate) user: u64,
    /// In the kernel.
    pub(crate) kernel: u64,
}

/// What a quota of CPU time did. All values are zero if there is no quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Throttling {
    /// Periods in which the container wanted to run.
    pub(crate) periods: u64,
    /// Those periods in which its quota ran out.
    pub(crate) throttled: u64,
    /// Microseconds for which its threads were then stopped, added up over the CPUs.
    pub(crate) time: u64,
}

/// Pressure on each resource (Documentation/accounting/psi.rst); only the v2 tree has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pressure {
    /// Of CPU time.
    pub(crate) cpu: Option<Stall>,
    /// Of memory.
    pub(crate) memory: Option<Stall>,
    /// Of disks.
    pub(crate) io: Option<Stall>,
}

/// Microseconds that processes waited for one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stall {
    /// While at least one process waited.
    pub(crate) some: u64,
    /// While all processes waited at once. For CPU time the kernel reports it since 5.13.
    pub(crate) full: Option<u64>,
}

/// Bytes moved to and from block devices. As in Docker, a stacked device (dm over a disk) counts on each level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Disk {
    /// Read.
    pub(crate) read: u64,
    /// Written.
    pub(crate) written: u64,
}

/// The charged memory less the inactive page cache, which `memory.stat` has under the name `inactive`.
pub(super) fn in_use(charged: u64, stat: &str, inactive: &str) -> u64 {
    charged.saturating_sub(keyed(stat, inactive).unwrap_or(0))
}

/// `cpu.stat`: microseconds.
pub(super) fn cpu_v2(stat: &str) -> Option<Cpu> {
    let nanoseconds = |key| Some(keyed(stat, key)?.saturating_mul(1000));
    Some(Cpu {
        total: nanoseconds("usage_usec")?,
        user: nanoseconds("user_usec")?,
        kernel: nanoseconds("system_usec")?,
    })
}

/// `cpuacct.usage`, and `cpuacct.stat` in clock ticks.
pub(super) fn cpu_v1(total: u64, stat: &str) -> Option<Cpu> {
    Some(Cpu {
        total,
        user: keyed(stat, "user")?.saturating_mul(TICK),
        kernel: keyed(stat, "system")?.saturating_mul(TICK),
    })
}

/// `cpu.stat` of either version. v2 counts the time in microseconds, v1 in nanoseconds.
pub(super) fn throttling(stat: &str) -> Option<Throttling> {
    let time = || match keyed(stat, "throttled_usec") {
        Some(microseconds) => Some(microseconds),
        None => Some(keyed(stat, "throttled_time")? / 1000),
    };
    Some(Throttling {
        periods: keyed(stat, "nr_periods")?,
        throttled: keyed(stat, "nr_throttled")?,
        time: time()?,
    })
}

/// `cpu.pressure` and its like: a line `some avg10=0.00 avg60=0.00 avg300=0.00 total=1`, and one with `full`.
pub(super) fn stall(pressure: &str) -> Option<Stall> {
    let total = |kind: &str| {
        let line = pressure.lines().find_map(|line| line.strip_prefix(kind))?;
        let field = line
            .split_ascii_whitespace()
            .find_map(|field| field.strip_prefix("total="));
        field?.parse().ok()
    };
    Some(Stall {
        some: total("some ")?,
        full: total("full "),
    })
}

/// `io.stat`: `8:0 rbytes=1 wbytes=2 …` for each device. A device without traffic may have no fields at all.
pub(super) fn disk_v2(stat: &str) -> Disk {
    let sum = |key: &str| {
        total(
            stat.split_ascii_whitespace()
                .filter_map(|field| field.strip_prefix(key)),
        )
    };
    Disk {
        read: sum("rbytes="),
        written: sum("wbytes="),
    }
}

/// `blkio.throttle.io_service_bytes`: `8:0 Read 1`, `8:0 Write 2` and sums that would count twice.
pub(super) fn disk_v1(stat: &str) -> Disk {
    let sum = |operation: &str| {
        total(stat.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            (fields.next()? == operation).then(|| fields.next()).flatten()
        }))
    };
    Disk {
        read: sum("Read"),
        written: sum("Write"),
    }
}

fn total<'t>(numbers: impl Iterator<Item = &'t str>) -> u64 {
    numbers
        .filter_map(|n| n.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inactive_page_cache_is_not_in_use() {
        let v1 = "cache 500\ninactive_file 1\ntotal_inactive_file 400\ntotal_active_file 7\n";
        assert_eq!(in_use(1000, v1, "total_inactive_file"), 600);
        assert_eq!(in_use(100, "inactive_file 400\n", "inactive_file"), 0);
        assert_eq!(in_use(100, "", "inactive_file"), 100);
    }

    #[test]
    fn cpu_time_comes_in_nanoseconds_from_every_file() {
        let v2 =
            "usage_usec 2500\nuser_usec 1500\nsystem_usec 1000\nnice_usec 0\ncore_sched.force_idle_usec 0\n";
        let expected = Cpu {
            total: 2_500_000,
            user: 1_500_000,
            kernel: 1_000_000,
        };
        assert_eq!(cpu_v2(v2), Some(expected));
        let expected = Cpu {
            total: 77,
            user: 120_000_000,
            kernel: 30_000_000,
        };
        assert_eq!(cpu_v1(77, "user 12\nsystem 3\n"), Some(expected));
        assert_eq!(cpu_v2("usage_usec 2500\n"), None);
    }

    #[test]
    fn throttling_comes_in_microseconds_from_both_versions() {
        // The v2 text is from kernel 6.1, the v1 text from 6.18, both with a quota.
        let v2 = "usage_usec 1103214\nuser_usec 1001003\nsystem_usec 102211\nnr_periods 110\nnr_throttled 105\n\
                  throttled_usec 9400123\nnr_bursts 0\nburst_usec 0\n";
        let v1 = "nr_periods 110\nnr_throttled 105\nthrottled_time 9400123999\nnr_bursts 0\nburst_time 0\n";
        let expected = Throttling {
            periods: 110,
            throttled: 105,
            time: 9_400_123,
        };
        assert_eq!(throttling(v2), Some(expected));
        assert_eq!(throttling(v1), Some(expected));
        // The v2 tree of a hybrid host, which has no cpu controller.
        assert_eq!(throttling("usage_usec 1\nuser_usec 1\nsystem_usec 0\n"), None);
    }

    #[test]
    fn pressure_is_read_with_and_without_a_full_line() {
        let whole = "some avg10=1.53 avg60=0.87 avg300=0.73 total=1022354\n\
                     full avg10=0.00 avg60=0.00 avg300=0.00 total=65\n";
        let stalled = |some, full| Some(Stall { some, full });
        assert_eq!(stall(whole), stalled(1_022_354, Some(65)));
        let before_5_13 = "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(stall(before_5_13), stalled(7, None));
        assert_eq!(stall(""), None);
        assert_eq!(stall("some avg10=0.00\n"), None);
    }

    #[test]
    fn disk_bytes_are_summed_over_devices_and_never_counted_twice() {
        let v1 = "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 12288\n254:0 Async 0\n254:0 Discard 0\n\
                  254:0 Total 12288\n7:0 Read 100\n7:0 Write 0\n7:0 Total 100\nTotal 12388\n";
        assert_eq!(
            disk_v1(v1),
            Disk {
                read: 4196,
                written: 8192
            }
        );
        let v2 = "259:0 \n8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n\
                  253:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=50331648 dios=3021\n";
        assert_eq!(
            disk_v2(v2),
            Disk {
                read: 1_459_201,
                written: 314_773_506
            }
        );
        assert_eq!(
            (disk_v1("Total 0\n"), disk_v2("")),
            (Disk::default(), Disk::default())
        );
    }
}
