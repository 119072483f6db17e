//! Limits that cgroups enforce. All conversions of units are in this file.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::baseline;
use crate::config::{CgroupVersion, ContainerConfig};
use crate::error::Error;

/// Docker's minimum: below it, the runtime itself cannot start a process.
const MEMORY_MIN: u64 = 6 * 1024 * 1024;

/// Microseconds; the kernel's own default.
const CPU_PERIOD: u64 = 100_000;

/// Microseconds of quota in a thousandth of a CPU.
const QUOTA_PER_MILLI_CPU: u64 = CPU_PERIOD / 1000;

/// The kernel refuses a quota below one millisecond (`min_cfs_quota_period`) …
const MILLI_CPUS_MIN: u64 = 1000 / QUOTA_PER_MILLI_CPU;

/// … and one that its fixed-point arithmetic cannot hold (`max_cfs_runtime`, 44 bits of microseconds).
const MILLI_CPUS_MAX: u64 = ((1 << 44) - 1) / QUOTA_PER_MILLI_CPU;

/// The devices, and each limit that was requested.
pub(crate) fn resources(config: &ContainerConfig, cgroup: CgroupVersion) -> Result<LinuxResources, Error> {
    let wanted = &config.resources;
    let mut resources = LinuxResources::default();
    resources
        .set_devices(Some(baseline::devices()))
        .set_memory(wanted.memory.map(|bytes| memory(bytes, cgroup)).transpose()?)
        .set_cpu(wanted.milli_cpus.map(cpu).transpose()?)
        .set_pids(
            wanted
                .pids
                .map(|number| pids(number, config.init.is_some()))
                .transpose()?,
        )
        .set_unified(oom_group(wanted.oom_group, cgroup)?);
    Ok(resources)
}

/// Memory without swap. The OCI field `swap` is the sum of both, even on v2, where the runtime subtracts and writes 0
/// to `memory.swap.max`. v1 could still swap within the limit, which swappiness 0 prevents; v2 has no swappiness.
fn memory(bytes: u64, cgroup: CgroupVersion) -> Result<LinuxMemory, Error> {
    if bytes < MEMORY_MIN {
        return Err(Error::MemoryTooSmall {
            bytes,
            minimum: MEMORY_MIN,
        });
    }
    let limit = i64::try_from(bytes).map_err(|_| Error::MemoryTooLarge { bytes })?;
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(Some(limit))
        .set_swap(Some(limit))
        .set_swappiness(match cgroup {
            CgroupVersion::V1 => Some(0),
            CgroupVersion::V2 => None,
        });
    Ok(memory)
}

/// `memory.oom.group` has no field in the OCI spec. `unified` contains files of the v2 tree, which runc (since 1.0) and
/// crun write unchanged. On v1 runc refuses the container, but only after everything else was created for it.
fn oom_group(wanted: bool, cgroup: CgroupVersion) -> Result<Option<HashMap<String, String>>, Error> {
    match (wanted, cgroup) {
        (false, _) => Ok(None),
        (true, CgroupVersion::V1) => Err(Error::OomGroup),
        (true, CgroupVersion::V2) => Ok(Some(HashMap::from([(
            "memory.oom.group".to_owned(),
            "1".to_owned(),
        )]))),
    }
}

fn cpu(milli_cpus: u64) -> Result<LinuxCpu, Error> {
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
    let mut cpu = LinuxCpu::default();
    cpu.set_quota(Some(i64::try_from(quota).map_err(|_| too_large())?))
        .set_period(Some(CPU_PERIOD));
    Ok(cpu)
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
