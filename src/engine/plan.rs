//! Everything decided about one container, as data. Both front doors end here, and nothing below them decides again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use fnctr_oci::ContainerConfig;

use super::custody::Custody;
use crate::ContainerId;
use crate::image::Reference;
use crate::sandbox::PortMapping;

/// Labels that this project puts on every container record, beside those of the plan.
pub(crate) mod label {
    /// What the names of all labels begin with that only the engine may give.
    pub(crate) const OWN: &str = "io.fnctr.";
    /// Present on every record that the engine made; the value is this crate's version.
    pub(crate) const ENGINE: &str = "io.fnctr.engine";
    /// Distinguishes two attempts to create the same id, so that an undo never removes another attempt's record.
    pub(crate) const ATTEMPT: &str = "io.fnctr.attempt";
    /// On the record of a container with a network namespace that goes when it goes: its name. Whoever takes the container over
    /// knows by it what to give back.
    pub(crate) const SANDBOX: &str = "io.fnctr.sandbox";
    /// On the record of a container that lives in a prepared network namespace, for whoever expects a process there: which one.
    pub(crate) const HOLDER: &str = "io.fnctr.holder-of";
    /// On the record of a container whose writable layer is limited: to how many bytes. Whoever takes it over knows by it
    /// that there is a limit to take away.
    pub(crate) const FS_SIZE: &str = "io.fnctr.fs-size";
    /// The command as a person would type it. With the next two, what lists need of the spec; see `facts`.
    pub(crate) const COMMAND: &str = "io.fnctr.command";
    /// Where the cgroup is, in the words of the spec.
    pub(crate) const CGROUP: &str = "io.fnctr.cgroup";
    /// The limit of memory, in bytes.
    pub(crate) const MEMORY: &str = "io.fnctr.memory";
    /// The process that looks after the container: its id, its start, its pid namespace and the boot. See `custody`.
    pub(crate) const OWNER: &str = "io.fnctr.owner";
    /// Present if that process leaves the container running when it ends.
    pub(crate) const DETACHED: &str = "io.fnctr.detached";
    /// Until when the container may run if its owner cannot see to that: milliseconds since 1970 by the host's clock.
    pub(crate) const DEADLINE: &str = "io.fnctr.deadline";
    /// The contract's label for "a container of this kind of host"; hosts of old look for it by this name.
    pub(crate) const CLASSIFIER: &str = "fn-agent-classifier";
    /// The contract's label for "made by this instance".
    pub(crate) const INSTANCE: &str = "fn-agent-instance";
}

/// The network that a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// None but loopback.
    #[default]
    None,
    /// The host's. The container goes by the host's name if `config.hostname` gives it none.
    Host,
    /// Attached to a network of this host.
    Attached {
        /// The one of these that is used least; the default one, `fnctr`, if there are none.
        networks: Vec<String>,
        /// Ports of the host that lead into the container.
        ports: Vec<PortMapping>,
        /// Whether a prepared one will do, on whichever network of the pool it is. Not with ports.
        pooled: bool,
    },
    /// Another container's, which must run.
    Of(ContainerId),
    /// A network namespace that the caller looks after, pinned at this path.
    Path(PathBuf),
}

/// A container, decided.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a plan does nothing until the engine creates it"]
pub(crate) struct Plan {
    /// The container's name, unique in the containerd namespace.
    pub(crate) id: ContainerId,
    /// The image whose file system and configuration it starts from.
    pub(crate) image: Reference,
    /// What the process gets. The engine fills in where the cgroup goes, which init runs and which network namespace it joins.
    pub(crate) config: ContainerConfig,
    /// The network that it has.
    pub(crate) network: Network,
    /// Whether an init is PID 1.
    pub(crate) init: bool,
    /// Labels of the containerd record.
    pub(crate) labels: BTreeMap<String, String>,
    /// Most bytes that the writable layer may hold.
    pub(crate) fs_size: Option<u64>,
    /// Host directories that the container's user must be able to write to (the function's socket goes there).
    pub(crate) writable: Vec<PathBuf>,
    /// Names beside those that the network gives it in `/etc/hosts`. Not of a network that is another container's.
    pub(crate) hosts: Vec<(String, IpAddr)>,
    /// What the process that makes it is to it, if its record shall say so.
    pub(crate) custody: Option<Custody>,
}
