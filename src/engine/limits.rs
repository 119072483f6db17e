//! Whether this host can enforce the limits of a container.

use fnctr_oci::Resources;

use super::Deps;

/// Why it cannot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotEnforced {
    /// The kernel offers no controller for the limit.
    #[error("this host cannot enforce a limit on {resource}: its cgroups have no {controller} controller")]
    Controller {
        resource: &'static str,
        controller: &'static str,
    },
    /// The kernel would refuse the set.
    #[error("{what} {list} are not all there: this host has {online}")]
    NotOnline {
        what: &'static str,
        list: String,
        online: String,
    },
}

/// Refuses limits that this host cannot enforce.
pub(super) fn check(deps: &Deps, wanted: &Resources) -> Result<(), NotEnforced> {
    let has = &deps.host.controllers;
    let (cpus, mems) = (&wanted.cpuset_cpus, &wanted.cpuset_mems);
    let memory = wanted.memory.or(wanted.memory_reservation);
    let cpu = wanted.milli_cpus.or(wanted.cpu_shares);
    let missing = [
        (memory.is_some() && has.memory.is_none(), "memory", "memory"),
        (cpu.is_some() && has.cpu.is_none(), "CPUs", "cpu"),
        (
            cpus.as_ref().or(mems.as_ref()).is_some() && has.cpuset.is_none(),
            "which CPUs",
            "cpuset",
        ),
        (wanted.pids.is_some() && has.pids.is_none(), "processes", "pids"),
    ];
    if let Some((_, resource, controller)) = missing.into_iter().find(|(missing, ..)| *missing) {
        return Err(NotEnforced::Controller { resource, controller });
    }
    for (wanted, what, file) in [
        (cpus, "CPUs", "/sys/devices/system/cpu/online"),
        (mems, "memory nodes", "/sys/devices/system/node/online"),
    ] {
        let Some(list) = wanted else { continue };
        // A kernel without nodes has no such file, and no set to choose from.
        let online = std::fs::read_to_string(file).unwrap_or_else(|_| "0".to_owned());
        let online = online.trim();
        if fnctr_oci::set_of(list) > fnctr_oci::set_of(online) {
            return Err(NotEnforced::NotOnline {
                what,
                list: list.clone(),
                online: online.to_owned(),
            });
        }
    }
    Ok(())
}
