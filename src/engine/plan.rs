//! Everything decided about one container, as data. Both front ends produce a plan, and nothing in the engine decides
//! again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use fnctr_oci::{ContainerConfig, Mount};
use serde::{Deserialize, Serialize};

use super::custody::Custody;
use super::health::HealthCheck;
use super::log_plan::LogPlan;
use super::restart::RestartPolicy;
use super::volume_use::VolumeUse;
use crate::image::Reference;
use crate::sandbox::PortMapping;
use crate::{ContainerId, ContainerName};

/// The network of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// No network except loopback.
    #[default]
    None,
    /// The host's network. The container has the host's name unless `config.hostname` sets another.
    Host,
    /// Attached to a network of this host.
    Attached {
        /// Candidates, of which the least used one is chosen; empty means the default network, `fnctr`.
        networks: Vec<String>,
        /// Ports of the host that are forwarded to the container.
        ports: Vec<PortMapping>,
        /// Whether a prepared network namespace of the pool may be used, on any network of the pool. Ignored with
        /// ports.
        pooled: bool,
    },
    /// The network of another container, which must be running.
    Of(ContainerId),
    /// A network namespace that the caller manages, pinned at this path.
    Path(PathBuf),
}

/// A container as it is to be created.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a plan does nothing until the engine creates it"]
pub(crate) struct Plan {
    /// The container's id, unique in the containerd namespace.
    pub(crate) id: ContainerId,
    /// What people call it, if that is not its id; unique in the containerd namespace too.
    pub(crate) name: Option<ContainerName>,
    /// The image whose file system and configuration it starts from.
    pub(crate) image: Reference,
    /// The configuration of the process. The engine fills in the cgroup, the init and the network namespace to join.
    pub(crate) config: ContainerConfig,
    /// The container's network.
    pub(crate) network: Network,
    /// Whether an init is PID 1.
    pub(crate) init: bool,
    /// The names by which the containers of its network find it, beside its own, if a server resolves names for it. Such a
    /// container asks that resolver alone.
    pub(crate) aliases: Option<Vec<String>>,
    /// Labels of the containerd record.
    pub(crate) labels: BTreeMap<String, String>,
    /// Maximum size of the writable layer, in bytes.
    pub(crate) fs_size: Option<u64>,
    /// The volumes that it uses, each mounted at a place of its own. The engine makes those that are missing.
    pub(crate) volumes: Vec<VolumeUse>,
    /// Host directories that the container's user must be able to write to (for the function's socket).
    pub(crate) writable: Vec<PathBuf>,
    /// Names for `/etc/hosts` in addition to those of the network. Must be empty with [`Network::Of`].
    pub(crate) hosts: Vec<(String, IpAddr)>,
    /// How this process looks after the container, if the record is to state that.
    pub(crate) custody: Option<Custody>,
    /// Whether the container is kept after its end, and can be started again. Its record then has what that needs.
    pub(crate) is_kept: bool,
    /// Whether a network or a command that is not there is an error of the start, and not of the create. Only a container
    /// that is kept has a start of its own.
    pub(crate) is_checked_at_start: bool,
    /// How its output is kept, if it is; only for a container that is kept itself.
    pub(crate) log: Option<LogPlan>,
    /// How a server checks its health, if it does; only for a container that is kept.
    pub(crate) health: Option<HealthCheck>,
    /// When it is started again, by a server; only for a container that is kept.
    pub(crate) restart: RestartPolicy,
    /// What a front door keeps of its request on the record of a kept container; nothing here reads it.
    pub(crate) front: Option<serde_json::Value>,
}

impl Plan {
    /// Whether the network namespace may be another one after the container than before: another container in it, or after
    /// it, would find its addresses, routes, rules and kernel parameters.
    pub(super) fn may_change_its_network(&self) -> bool {
        let ContainerConfig {
            sysctls,
            security,
            mounts,
            ..
        } = &self.config;
        let leads_to_proc = |mount: &Mount| {
            let Mount::Bind { source, .. } = mount else {
                return false;
            };
            source == Path::new("/") || source.starts_with("/proc")
        };
        // The runtime writes the parameters. A process may, if it has CAP_NET_ADMIN, can take it, or can write to /proc/sys.
        sysctls.keys().any(|name| name.starts_with("net"))
            || security.capabilities.exceed_docker()
            || !security.protect_paths
            || mounts.iter().any(leads_to_proc)
    }
}
