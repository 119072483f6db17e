//! Everything decided about one container, as data. Both front doors end here, and nothing below them decides again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use fnctr_oci::ContainerConfig;

use super::custody::Custody;
use crate::ContainerId;
use crate::image::Reference;
use crate::sandbox::PortMapping;

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
