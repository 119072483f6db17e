//! Limits in Docker's terms: those of a create, and their change. Pure.

use fnctr_oci::{Limit, Resources, ResourcesUpdate};

use super::body::HostConfig;
use crate::docker_api::json::Object;
use crate::docker_api::refused::Refused;

/// Docker's smallest limit of memory, in bytes.
const MIN_MEMORY: i64 = 6 << 20;
/// The period of a CPU quota if none is given, in microseconds (Documentation/scheduler/sched-bwc.rst).
const CPU_PERIOD: i64 = 100_000;
const THOUSANDTH_OF_A_CPU: i64 = 1_000_000;

/// The limits of a container on a host with this many CPUs.
///
/// # Errors
/// Status 400 with Docker's sentence, where Docker has one.
pub(super) fn of(host: &HostConfig, cpus: usize) -> Result<Resources, Refused> {
    Ok(Resources {
        memory: memory(host)?,
        memory_reservation: memory_reservation(host)?,
        milli_cpus: milli_cpus(host, cpus)?,
        cpu_shares: match host.cpu_shares {
            0 => None,
            // What the kernel makes of them.
            shares => Some(u64::try_from(shares).unwrap_or_default().clamp(2, 262_144)),
        },
        cpuset_cpus: cpuset(&host.cpuset_cpus, "cpus")?,
        cpuset_mems: cpuset(&host.cpuset_mems, "mems")?,
        pids: host
            .pids_limit
            .filter(|limit| *limit > 0)
            .and_then(|limit| u64::try_from(limit).ok()),
        oom_group: false,
    })
}

/// Changes the limits of `host` to those in the body of an update, in which 0 and nothing leave a limit as it is. Returns
/// what changes.
///
/// # Errors
/// As for [`of`]. `host` may be changed in part then.
pub(super) fn change(host: &mut HostConfig, body: &Object, cpus: usize) -> Result<ResourcesUpdate, Refused> {
    let given = |name: &str| {
        body.integer(name)
            .map(|value| Some(value).filter(|value| *value != 0))
    };
    let (nano, period, quota) = (given("NanoCpus")?, given("CpuPeriod")?, given("CpuQuota")?);
    if nano.is_some() && (host.cpu_period != 0 || host.cpu_quota > 0) {
        return Err(Refused::bad(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period/Quota has already been set",
        ));
    }
    if (period.is_some() || quota.is_some()) && host.nano_cpus != 0 {
        return Err(Refused::bad(
            "Conflicting options: CPU Period/Quota cannot be updated as NanoCPUs has already been set",
        ));
    }
    let before = host.clone();
    let set = |place: &mut i64, new: Option<i64>| *place = new.unwrap_or(*place);
    set(&mut host.nano_cpus, nano);
    set(&mut host.cpu_period, period);
    set(&mut host.cpu_quota, quota);
    set(&mut host.cpu_shares, given("CpuShares")?);
    set(&mut host.memory_reservation, given("MemoryReservation")?);
    let (memory, swap) = (given("Memory")?, given("MemorySwap")?);
    // Here, the two are one limit.
    let follows = memory.filter(|_| before.memory_swap > 0);
    set(&mut host.memory, memory);
    set(&mut host.memory_swap, swap.or(follows));
    let pids = body.integer_if_given("PidsLimit")?;
    host.pids_limit = pids.or(host.pids_limit);
    for (place, name) in [
        (&mut host.cpuset_cpus, "CpusetCpus"),
        (&mut host.cpuset_mems, "CpusetMems"),
    ] {
        let list = body.text(name)?;
        if !list.is_empty() {
            *place = list;
        }
    }
    let after = of(host, cpus)?;
    let limit = |value: Option<u64>| value.map_or(Limit::Unlimited, Limit::At);
    let is_cpu = nano.or(period).or(quota).is_some();
    Ok(ResourcesUpdate {
        memory: memory.map(|_| limit(after.memory)),
        memory_reservation: after
            .memory_reservation
            .filter(|_| host.memory_reservation != before.memory_reservation),
        milli_cpus: is_cpu.then(|| limit(after.milli_cpus)),
        cpu_shares: after.cpu_shares.filter(|_| host.cpu_shares != before.cpu_shares),
        cpuset_cpus: after
            .cpuset_cpus
            .filter(|_| host.cpuset_cpus != before.cpuset_cpus),
        cpuset_mems: after
            .cpuset_mems
            .filter(|_| host.cpuset_mems != before.cpuset_mems),
        pids: pids.map(|_| limit(after.pids)),
    })
}

/// The limits of a container as they are now, in Docker's terms: its maker's if they still say the same.
pub(super) fn shown(maker: &HostConfig, now: &Resources) -> HostConfig {
    if of(maker, usize::MAX).is_ok_and(|of_maker| of_maker == *now) {
        return maker.clone();
    }
    let integer = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
    let memory = integer(now.memory).unwrap_or_default();
    HostConfig {
        memory,
        memory_swap: memory,
        memory_reservation: integer(now.memory_reservation).unwrap_or_default(),
        nano_cpus: integer(now.milli_cpus)
            .unwrap_or_default()
            .saturating_mul(THOUSANDTH_OF_A_CPU),
        cpu_period: 0,
        cpu_quota: 0,
        cpu_shares: integer(now.cpu_shares).unwrap_or_default(),
        cpuset_cpus: now.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: now.cpuset_mems.clone().unwrap_or_default(),
        pids_limit: integer(now.pids),
        ..maker.clone()
    }
}

fn memory(host: &HostConfig) -> Result<Option<u64>, Refused> {
    let (memory, swap) = (host.memory, host.memory_swap);
    match host.memory_swappiness {
        None | Some(-1 | 0) => {}
        Some(0..=100) => {
            return Err(Refused::bad(
                "HostConfig.MemorySwappiness is not served by fnctr, whose containers do not swap; leave it out, or set it to 0",
            ));
        }
        Some(value) => {
            return Err(Refused::bad(format!(
                "Invalid value: {value}, valid memory swappiness range is 0-100"
            )));
        }
    }
    if memory != 0 && memory < MIN_MEMORY {
        return Err(Refused::bad("Minimum memory limit allowed is 6MB"));
    }
    if memory == 0 && swap > 0 {
        return Err(Refused::bad(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    if swap > 0 && swap < memory {
        return Err(Refused::bad(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    if swap > memory {
        return Err(Refused::bad(
            "HostConfig.MemorySwap: fnctr's containers do not swap; leave it out, or set it to the value of Memory",
        ));
    }
    Ok(u64::try_from(memory).ok().filter(|bytes| *bytes != 0))
}

fn milli_cpus(host: &HostConfig, cpus: usize) -> Result<Option<u64>, Refused> {
    let most = i64::try_from(cpus).unwrap_or(i64::MAX).saturating_mul(1000);
    let milli = match (host.nano_cpus, host.cpu_quota) {
        (0, 0 | -1) => return Ok(None),
        (0, quota) => {
            let period = if host.cpu_period == 0 {
                CPU_PERIOD
            } else {
                host.cpu_period
            };
            if quota < 0 || period < 0 {
                return Err(Refused::bad(
                    "HostConfig.CpuQuota and CpuPeriod cannot be negative",
                ));
            }
            return Ok(u64::try_from(quota.saturating_mul(1000) / period)
                .ok()
                .map(|milli| milli.max(1)));
        }
        (_, quota) if quota != 0 || host.cpu_period != 0 => {
            return Err(Refused::bad(
                "Conflicting options: Nano CPUs and CPU Period cannot both be set",
            ));
        }
        (nano, _) => nano / THOUSANDTH_OF_A_CPU,
    };
    if !(10..=most).contains(&milli) {
        return Err(Refused::bad(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    Ok(u64::try_from(milli).ok())
}

/// A promise of memory.
fn memory_reservation(host: &HostConfig) -> Result<Option<u64>, Refused> {
    let (memory, reservation) = (host.memory, host.memory_reservation);
    if reservation != 0 && reservation < MIN_MEMORY {
        return Err(Refused::bad("Minimum memory reservation allowed is 6MB"));
    }
    if memory > 0 && reservation > memory {
        return Err(Refused::bad(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    Ok(u64::try_from(reservation).ok().filter(|bytes| *bytes != 0))
}

/// A set of CPUs or memory nodes. Whether the host has them, the engine checks.
fn cpuset(list: &str, what: &str) -> Result<Option<String>, Refused> {
    match list {
        "" => Ok(None),
        list if fnctr_oci::set_of(list).is_none() => {
            Err(Refused::bad(format!("Invalid value {list} for cpuset {what}")))
        }
        list => Ok(Some(list.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn made(memory: i64, swap: i64) -> HostConfig {
        HostConfig {
            memory,
            memory_swap: swap,
            pids_limit: Some(20),
            ..HostConfig::default()
        }
    }

    fn changed(host: &HostConfig, body: &str) -> Result<(HostConfig, ResourcesUpdate), String> {
        let mut host = host.clone();
        let body = Object::of_body(body.as_bytes()).unwrap();
        match change(&mut host, &body, 4) {
            Ok(update) => Ok((host, update)),
            Err(refused) => Err(refused.message),
        }
    }

    #[test]
    fn zeros_leave_every_limit_as_it_is() {
        let before = made(64 << 20, 0);
        let noise = r#"{"Memory":0,"MemorySwap":0,"NanoCpus":0,"CpuShares":0,"CpusetCpus":"","PidsLimit":null,"BlkioWeight":0,
            "RestartPolicy":{"Name":"","MaximumRetryCount":0}}"#;
        let (after, update) = changed(&before, noise).unwrap();
        assert_eq!(after, before);
        assert!(update.is_empty(), "{update:?}");
    }

    #[test]
    fn what_is_given_changes_and_is_shown() {
        let before = made(64 << 20, 64 << 20);
        let body = r#"{"Memory":134217728,"NanoCpus":1500000000,"CpuShares":2048,"CpusetCpus":"0-1","PidsLimit":-1}"#;
        let (after, update) = changed(&before, body).unwrap();
        let expected = ResourcesUpdate {
            memory: Some(Limit::At(128 * MIB)),
            milli_cpus: Some(Limit::At(1500)),
            cpu_shares: Some(2048),
            cpuset_cpus: Some("0-1".to_owned()),
            pids: Some(Limit::Unlimited),
            ..ResourcesUpdate::default()
        };
        assert_eq!(update, expected);
        assert_eq!(
            (after.memory, after.memory_swap, after.nano_cpus),
            (128 << 20, 128 << 20, 1_500_000_000)
        );
        let now = of(&before, 4).unwrap().updated(&update);
        assert_eq!(shown(&after, &now), after);
        let seen = shown(&before, &now);
        assert_eq!(
            (seen.memory, seen.nano_cpus, seen.pids_limit),
            (128 << 20, 1_500_000_000, None)
        );
    }

    #[test]
    fn a_quota_is_lifted_and_a_period_alone_changes_the_limit() {
        let before = HostConfig {
            cpu_quota: 50_000,
            ..HostConfig::default()
        };
        let (_, update) = changed(&before, r#"{"CpuQuota":-1}"#).unwrap();
        assert_eq!(update.milli_cpus, Some(Limit::Unlimited));
        let (_, update) = changed(&before, r#"{"CpuPeriod":50000}"#).unwrap();
        assert_eq!(update.milli_cpus, Some(Limit::At(1000)));
    }

    #[test]
    fn a_change_that_fits_nothing_is_refused_in_docker_s_words() {
        let quota = HostConfig {
            cpu_quota: 50_000,
            ..HostConfig::default()
        };
        let nano = HostConfig {
            nano_cpus: 500_000_000,
            memory_reservation: 32 << 20,
            ..HostConfig::default()
        };
        for (host, body, says) in [
            (
                &quota,
                r#"{"NanoCpus":1000000000}"#,
                "Nano CPUs cannot be updated",
            ),
            (&nano, r#"{"CpuQuota":1000}"#, "NanoCPUs has already been set"),
            (&nano, r#"{"NanoCpus":9000000000}"#, "range of CPUs"),
            (&nano, r#"{"Memory":1024}"#, "Minimum memory limit allowed"),
            (&nano, r#"{"Memory":16777216}"#, "less than memory reservation"),
            (&nano, r#"{"MemoryReservation":5}"#, "Minimum memory reservation"),
            (&nano, r#"{"CpusetCpus":"a"}"#, "Invalid value a for cpuset cpus"),
            (&nano, r#"{"Memory":"x"}"#, "Memory"),
        ] {
            let message = changed(host, body).unwrap_err();
            assert!(message.contains(says), "{body}: {message}");
        }
    }
}
