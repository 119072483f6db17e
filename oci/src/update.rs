//! Limits that change while a container exists.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::config::{CgroupVersion, Limit, Resources, ResourcesUpdate};
use crate::error::Error;
use crate::resources::{CPU_PERIOD, OOM_GROUP, limits, milli_cpus_of};

/// What a runtime takes for no limit.
const UNLIMITED: i64 = -1;

impl Limit {
    fn value(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::At(value) => Some(value),
        }
    }
}

impl ResourcesUpdate {
    /// Whether it leaves every limit as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Resources {
    /// These limits after a change.
    #[must_use]
    pub fn updated(&self, update: &ResourcesUpdate) -> Self {
        let limit = |new: Option<Limit>, old| new.map_or(old, Limit::value);
        let set = |new: &Option<String>, old: &Option<String>| new.clone().or_else(|| old.clone());
        Self {
            memory: limit(update.memory, self.memory),
            memory_reservation: update.memory_reservation.or(self.memory_reservation),
            milli_cpus: limit(update.milli_cpus, self.milli_cpus),
            cpu_shares: update.cpu_shares.or(self.cpu_shares),
            cpuset_cpus: set(&update.cpuset_cpus, &self.cpuset_cpus),
            cpuset_mems: set(&update.cpuset_mems, &self.cpuset_mems),
            pids: limit(update.pids, self.pids),
            oom_group: self.oom_group,
        }
    }

    /// The limits in a spec that [`crate::spec`] has made.
    #[must_use]
    pub fn of_spec(resources: &LinuxResources) -> Self {
        let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let (memory, cpu) = (resources.memory(), resources.cpu().as_ref());
        let pids = resources.pids().map(|pids| pids.limit());
        let unified = resources.unified().as_ref();
        Self {
            memory: memory.and_then(|memory| positive(memory.limit())),
            memory_reservation: memory.and_then(|memory| positive(memory.reservation())),
            milli_cpus: cpu.and_then(|cpu| positive(cpu.quota())).map(milli_cpus_of),
            cpu_shares: cpu.and_then(LinuxCpu::shares),
            cpuset_cpus: cpu.and_then(|cpu| cpu.cpus().clone()),
            cpuset_mems: cpu.and_then(|cpu| cpu.mems().clone()),
            pids: positive(pids),
            oom_group: unified.is_some_and(|files| files.get(OOM_GROUP).is_some_and(|value| value == "1")),
        }
    }
}

/// Changes the limits in a container's spec, and returns what the runtime is to change in its cgroup. `init` as in the
/// container's configuration: an init needs a process of its own.
///
/// # Errors
/// The first limit that cannot be enforced, also of those that stay: a reservation must not be above the memory limit.
/// Then nothing is changed.
pub fn update(
    spec: &mut LinuxResources,
    update: &ResourcesUpdate,
    init: bool,
    cgroup: CgroupVersion,
) -> Result<LinuxResources, Error> {
    let after = limits(&Resources::of_spec(spec).updated(update), init, cgroup)?;
    let mut changes = LinuxResources::default();
    changes
        .set_memory(memory(update, after.memory().unwrap_or_default()))
        .set_cpu(cpu(update, &after.cpu().clone().unwrap_or_default()))
        .set_pids(update.pids.map(|_| {
            let mut none = LinuxPids::default();
            none.set_limit(UNLIMITED);
            after.pids().unwrap_or(none)
        }));
    spec.set_memory(*after.memory())
        .set_cpu(after.cpu().clone())
        .set_pids(*after.pids());
    Ok(changes)
}

fn memory(update: &ResourcesUpdate, after: LinuxMemory) -> Option<LinuxMemory> {
    let mut memory = LinuxMemory::default();
    if update.memory.is_some() {
        // Without a limit, swap is free again too.
        let limit = after.limit().or(Some(UNLIMITED));
        memory.set_limit(limit).set_swap(limit);
    }
    if update.memory_reservation.is_some() {
        memory.set_reservation(after.reservation());
    }
    (memory != LinuxMemory::default()).then_some(memory)
}

fn cpu(update: &ResourcesUpdate, after: &LinuxCpu) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    if update.milli_cpus.is_some() {
        cpu.set_quota(after.quota().or(Some(UNLIMITED)))
            .set_period(Some(CPU_PERIOD));
    }
    cpu.set_shares(after.shares().filter(|_| update.cpu_shares.is_some()))
        .set_cpus(update.cpuset_cpus.clone())
        .set_mems(update.cpuset_mems.clone());
    (cpu != LinuxCpu::default()).then_some(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: CgroupVersion = CgroupVersion::V2;

    fn before() -> Resources {
        Resources {
            memory: Some(64 << 20),
            milli_cpus: Some(1500),
            cpu_shares: Some(512),
            pids: Some(20),
            oom_group: true,
            ..Resources::default()
        }
    }

    fn changed(change: &ResourcesUpdate) -> (serde_json::Value, Resources) {
        let mut spec = limits(&before(), true, V2).unwrap();
        let changes = update(&mut spec, change, true, V2).unwrap();
        let after = Resources::of_spec(&spec);
        assert_eq!(after, before().updated(change));
        assert_eq!(spec.unified(), limits(&before(), true, V2).unwrap().unified());
        (serde_json::to_value(changes).unwrap(), after)
    }

    #[test]
    fn the_limits_of_a_spec_are_those_that_it_was_made_from() {
        let all = Resources {
            memory_reservation: Some(32 << 20),
            cpuset_cpus: Some("0-1".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            ..before()
        };
        for wanted in [Resources::default(), before(), all] {
            let spec = limits(&wanted, true, V2).unwrap();
            assert_eq!(Resources::of_spec(&spec), wanted);
        }
    }

    #[test]
    fn the_runtime_gets_what_changes_and_nothing_else() {
        let (changes, after) = changed(&ResourcesUpdate {
            memory: Some(Limit::At(128 << 20)),
            ..ResourcesUpdate::default()
        });
        let memory = serde_json::json!({ "memory": { "limit": 128 << 20, "swap": 128 << 20 } });
        assert_eq!(changes, memory);
        assert_eq!((after.memory, after.pids), (Some(128 << 20), Some(20)));
        let (changes, _) = changed(&ResourcesUpdate {
            cpu_shares: Some(2048),
            cpuset_cpus: Some("0".to_owned()),
            ..ResourcesUpdate::default()
        });
        assert_eq!(
            changes,
            serde_json::json!({ "cpu": { "shares": 2048, "cpus": "0" } })
        );
    }

    #[test]
    fn a_limit_is_lifted() {
        let lift = ResourcesUpdate {
            memory: Some(Limit::Unlimited),
            milli_cpus: Some(Limit::Unlimited),
            pids: Some(Limit::Unlimited),
            ..ResourcesUpdate::default()
        };
        let (changes, after) = changed(&lift);
        let lifted = serde_json::json!({
            "memory": { "limit": -1, "swap": -1 }, "cpu": { "quota": -1, "period": 100_000 }, "pids": { "limit": -1 },
        });
        assert_eq!(changes, lifted);
        assert_eq!((after.memory, after.milli_cpus, after.pids), (None, None, None));
    }

    #[test]
    fn a_change_that_cannot_be_enforced_leaves_the_spec_as_it_was() {
        let wanted = Resources {
            memory_reservation: Some(32 << 20),
            ..before()
        };
        let mut spec = limits(&wanted, true, V2).unwrap();
        for change in [
            ResourcesUpdate {
                memory: Some(Limit::At(16 << 20)),
                ..ResourcesUpdate::default()
            },
            ResourcesUpdate {
                pids: Some(Limit::At(1)),
                ..ResourcesUpdate::default()
            },
            ResourcesUpdate {
                cpuset_cpus: Some("x".to_owned()),
                ..ResourcesUpdate::default()
            },
        ] {
            assert!(update(&mut spec, &change, true, V2).is_err(), "{change:?}");
            assert_eq!(Resources::of_spec(&spec), wanted);
        }
    }
}
