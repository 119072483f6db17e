//! Limits that cgroups enforce. All conversions of units are in this file.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::baseline;
use crate::config::{CgroupVersion, ContainerConfig, Resources};
use crate::error::Error;

/// Docker's minimum: below it, the runtime itself cannot start a process.
const MEMORY_MIN: u64 = 6 * 1024 * 1024;

/// Microseconds; the kernel's own default.
pub(crate) const CPU_PERIOD: u64 = 100_000;

/// Microseconds of quota in a thousandth of a CPU.
const QUOTA_PER_MILLI_CPU: u64 = CPU_PERIOD / 1000;

/// The kernel refuses a quota below one millisecond (`min_cfs_quota_period`) …
const MILLI_CPUS_MIN: u64 = 1000 / QUOTA_PER_MILLI_CPU;

/// … and one that its fixed-point arithmetic cannot hold (`max_cfs_runtime`, 44 bits of microseconds).
const MILLI_CPUS_MAX: u64 = ((1 << 44) - 1) / QUOTA_PER_MILLI_CPU;

/// The range of a weight that the kernel accepts on v1 (`MIN_SHARES`, `MAX_SHARES`), from which the runtime derives that of v2.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// The file of the v2 tree that kills a container as a whole.
pub(crate) const OOM_GROUP: &str = "memory.oom.group";

/// The devices, and each limit that was requested.
pub(crate) fn resources(config: &ContainerConfig, cgroup: CgroupVersion) -> Result<LinuxResources, Error> {
    let mut resources = limits(&config.resources, config.init.is_some(), cgroup)?;
    resources.set_devices(Some(baseline::devices()));
    Ok(resources)
}

/// Each limit that was requested. With `init`, an init needs a process of its own.
pub(crate) fn limits(wanted: &Resources, init: bool, cgroup: CgroupVersion) -> Result<LinuxResources, Error> {
    let mut resources = LinuxResources::default();
    resources
        .set_memory(memory(wanted, cgroup)?)
        .set_cpu(cpu(wanted)?)
        .set_pids(wanted.pids.map(|number| pids(number, init)).transpose()?)
        .set_unified(oom_group(wanted.oom_group, cgroup)?);
    Ok(resources)
}

/// Memory without swap. The OCI field `swap` is the sum of both, even on v2, where the runtime subtracts and writes 0
/// to `memory.swap.max`. v1 could still swap within the limit, which swappiness 0 prevents; v2 has no swappiness.
fn memory(wanted: &Resources, cgroup: CgroupVersion) -> Result<Option<LinuxMemory>, Error> {
    let (limit, reservation) = (wanted.memory, wanted.memory_reservation);
    let mut memory = LinuxMemory::default();
    if let Some(bytes) = reservation {
        let bytes = enough(bytes, "memory reservation")?;
        memory.set_reservation(Some(bytes));
    }
    if let Some(bytes) = limit {
        if let Some(reservation) = reservation.filter(|reservation| *reservation > bytes) {
            return Err(Error::Reservation { reservation, bytes });
        }
        let limit = enough(bytes, "memory limit")?;
        memory
            .set_limit(Some(limit))
            .set_swap(Some(limit))
            .set_swappiness(match cgroup {
                CgroupVersion::V1 => Some(0),
                CgroupVersion::V2 => None,
            });
    }
    Ok((memory != LinuxMemory::default()).then_some(memory))
}

fn enough(bytes: u64, what: &'static str) -> Result<i64, Error> {
    if bytes < MEMORY_MIN {
        return Err(Error::MemoryTooSmall {
            what,
            bytes,
            minimum: MEMORY_MIN,
        });
    }
    i64::try_from(bytes).map_err(|_| Error::MemoryTooLarge { what, bytes })
}

/// `memory.oom.group` has no field in the OCI spec. `unified` contains files of the v2 tree, which runc (since 1.0) and
/// crun write unchanged. On v1 runc refuses the container, but only after everything else was created for it.
fn oom_group(wanted: bool, cgroup: CgroupVersion) -> Result<Option<HashMap<String, String>>, Error> {
    match (wanted, cgroup) {
        (false, _) => Ok(None),
        (true, CgroupVersion::V1) => Err(Error::OomGroup),
        (true, CgroupVersion::V2) => Ok(Some(HashMap::from([(OOM_GROUP.to_owned(), "1".to_owned())]))),
    }
}

fn cpu(wanted: &Resources) -> Result<Option<LinuxCpu>, Error> {
    let mut cpu = LinuxCpu::default();
    if let Some(milli_cpus) = wanted.milli_cpus {
        cpu.set_quota(Some(quota(milli_cpus)?))
            .set_period(Some(CPU_PERIOD));
    }
    if let Some(shares) = wanted.cpu_shares {
        if !SHARES.contains(&shares) {
            return Err(Error::CpuShares { shares });
        }
        cpu.set_shares(Some(shares));
    }
    if let Some(list) = &wanted.cpuset_cpus {
        cpu.set_cpus(Some(checked(list, "CPUs")?));
    }
    if let Some(list) = &wanted.cpuset_mems {
        cpu.set_mems(Some(checked(list, "memory nodes")?));
    }
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

/// Microseconds of each period.
fn quota(milli_cpus: u64) -> Result<i64, Error> {
    if milli_cpus < MILLI_CPUS_MIN {
        return Err(Error::CpuTooSmall {
            milli_cpus,
            minimum: MILLI_CPUS_MIN,
        });
    }
    let too_large = || Error::CpuTooLarge {
        milli_cpus,
        maximum: MILLI_CPUS_MAX,
    };
    if milli_cpus > MILLI_CPUS_MAX {
        return Err(too_large());
    }
    let quota = milli_cpus
        .checked_mul(QUOTA_PER_MILLI_CPU)
        .ok_or_else(too_large)?;
    i64::try_from(quota).map_err(|_| too_large())
}

/// The thousandths of a CPU that a quota of this many microseconds is.
pub(crate) fn milli_cpus_of(quota: u64) -> u64 {
    quota / QUOTA_PER_MILLI_CPU
}

fn checked(list: &str, what: &'static str) -> Result<String, Error> {
    match set_of(list) {
        Some(_) => Ok(list.to_owned()),
        None => Err(Error::Cpuset {
            what,
            list: list.to_owned(),
        }),
    }
}

/// The highest number in a list of CPUs or memory nodes such as `0-2,4`; `None` if it is not such a list.
#[must_use]
pub fn set_of(list: &str) -> Option<u32> {
    let mut highest = None;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u32>().ok(),
            false => None,
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        highest = highest.max(Some(last));
    }
    highest
}

/// The kernel's PID_MAX_LIMIT on 64-bit machines; `pids.max` refuses larger numbers.
const MAX_PIDS: i64 = 4_194_304;

fn pids(pids: u64, init: bool) -> Result<LinuxPids, Error> {
    // The runtime would treat 0 as no limit; and with an init that cannot fork its command, the container cannot run.
    let minimum = if init { 2 } else { 1 };
    if pids < minimum {
        return Err(Error::PidsTooFew { pids, minimum });
    }
    let mut limit = LinuxPids::default();
    let few_enough = i64::try_from(pids).ok().filter(|pids| *pids <= MAX_PIDS);
    limit.set_limit(few_enough.ok_or(Error::PidsTooMany { pids })?);
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_LARGE: u64 = i64::MAX.unsigned_abs() + 1;

    fn memory(bytes: u64, version: CgroupVersion) -> Result<LinuxMemory, Error> {
        let wanted = Resources {
            memory: Some(bytes),
            ..Resources::default()
        };
        super::memory(&wanted, version).map(Option::unwrap_or_default)
    }

    fn cpu(milli_cpus: u64) -> Result<LinuxCpu, Error> {
        let wanted = Resources {
            milli_cpus: Some(milli_cpus),
            ..Resources::default()
        };
        super::cpu(&wanted).map(Option::unwrap_or_default)
    }

    #[test]
    fn shares_sets_and_a_reservation_are_passed_on() {
        let wanted = Resources {
            memory_reservation: Some(MEMORY_MIN),
            cpu_shares: Some(512),
            cpuset_cpus: Some("0-1,3".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            ..Resources::default()
        };
        let limits = limits(&wanted, false, CgroupVersion::V1).unwrap();
        let (memory, cpu) = (limits.memory().unwrap(), limits.cpu().clone().unwrap());
        assert_eq!((memory.limit(), memory.reservation()), (None, Some(6_291_456)));
        assert_eq!((cpu.shares(), cpu.quota()), (Some(512), None));
        assert_eq!(
            (cpu.cpus().as_deref(), cpu.mems().as_deref()),
            (Some("0-1,3"), Some("0"))
        );
    }

    #[test]
    fn what_is_no_set_and_no_share_is_refused() {
        for list in ["", "a", "1-", "-1", "3-1", "1,,2", "+1", "1 ", "99999999999"] {
            assert_eq!(set_of(list), None, "{list:?}");
        }
        for (list, highest) in [("0", 0), ("0-3", 3), ("7,1-2", 7)] {
            assert_eq!(set_of(list), Some(highest), "{list:?}");
        }
        for shares in [0, 1, 262_145] {
            let wanted = Resources {
                cpu_shares: Some(shares),
                ..Resources::default()
            };
            assert_eq!(super::cpu(&wanted), Err(Error::CpuShares { shares }));
        }
        let wanted = Resources {
            memory: Some(MEMORY_MIN),
            memory_reservation: Some(MEMORY_MIN + 1),
            ..Resources::default()
        };
        let refused = super::memory(&wanted, CgroupVersion::V2);
        assert!(matches!(refused, Err(Error::Reservation { .. })), "{refused:?}");
    }

    #[test]
    fn memory_forbids_swap_on_both_versions() {
        for version in [CgroupVersion::V1, CgroupVersion::V2] {
            let memory = memory(MEMORY_MIN, version).unwrap();
            assert_eq!(
                (memory.limit(), memory.swap()),
                (Some(6_291_456), Some(6_291_456))
            );
        }
        assert_eq!(
            memory(MEMORY_MIN, CgroupVersion::V1).unwrap().swappiness(),
            Some(0)
        );
        assert_eq!(memory(MEMORY_MIN, CgroupVersion::V2).unwrap().swappiness(), None);
    }

    #[test]
    fn milli_cpus_are_hundreds_of_microseconds() {
        for (milli, quota) in [(10, 1000), (250, 25_000), (1500, 150_000)] {
            let cpu = cpu(milli).unwrap();
            assert_eq!((cpu.quota(), cpu.period()), (Some(quota), Some(100_000)));
        }
        assert!(cpu(MILLI_CPUS_MAX).is_ok());
    }

    #[test]
    fn a_container_is_killed_as_a_whole_where_the_kernel_can_and_refused_elsewhere() {
        let file = oom_group(true, CgroupVersion::V2).unwrap().unwrap();
        assert_eq!(file.get("memory.oom.group").map(String::as_str), Some("1"));
        assert_eq!(oom_group(true, CgroupVersion::V1), Err(Error::OomGroup));
        for version in [CgroupVersion::V1, CgroupVersion::V2] {
            assert_eq!(oom_group(false, version), Ok(None));
        }
    }

    #[test]
    fn a_limit_that_cannot_be_enforced_is_refused() {
        assert!(matches!(
            memory(MEMORY_MIN - 1, CgroupVersion::V2),
            Err(Error::MemoryTooSmall { .. })
        ));
        assert!(matches!(
            memory(TOO_LARGE, CgroupVersion::V2),
            Err(Error::MemoryTooLarge { .. })
        ));
        assert_eq!(
            cpu(9),
            Err(Error::CpuTooSmall {
                milli_cpus: 9,
                minimum: 10
            })
        );
        assert!(matches!(cpu(MILLI_CPUS_MAX + 1), Err(Error::CpuTooLarge { .. })));
        assert!(matches!(cpu(u64::MAX), Err(Error::CpuTooLarge { .. })));
        assert_eq!(pids(0, false), Err(Error::PidsTooFew { pids: 0, minimum: 1 }));
        assert_eq!(pids(1, true), Err(Error::PidsTooFew { pids: 1, minimum: 2 }));
        assert_eq!(pids(TOO_LARGE, true), Err(Error::PidsTooMany { pids: TOO_LARGE }));
        assert_eq!(pids(1, false).unwrap().limit(), 1);
    }
}
