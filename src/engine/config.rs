//! The configuration of the engine.

use std::path::PathBuf;
use std::time::Duration;

use super::plan::Plan;
use super::runtime::Runtime;
use crate::Namespace;
use crate::cgroup::CgroupDriver;
use crate::image;
use crate::pool::Bounds;
use crate::sandbox::NetworkSettings;

/// The configuration of the engine.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// containerd's socket.
    pub(crate) address: PathBuf,
    /// containerd namespace that holds all containers and images of the engine.
    pub(crate) namespace: Namespace,
    /// Directory for fifos and other files that need not survive a reboot.
    pub(crate) run_dir: PathBuf,
    /// Directory for what outlives a reboot: the output that is kept of containers.
    pub(crate) data_dir: PathBuf,
    /// containerd's name of the snapshotter.
    pub(crate) snapshotter: String,
    /// The OCI runtime.
    pub(crate) runtime: Runtime,
    /// The host's init, which becomes PID 1 of containers that ask for one.
    pub(crate) init: PathBuf,
    /// Which driver makes the containers' cgroups; the result of the choice is [`Runtime::systemd_cgroup`].
    pub(crate) cgroup_driver: CgroupDriver,
    /// Parent of the containers' cgroups: a path in every hierarchy, or systemd's slice.
    pub(crate) cgroup_parent: String,
    /// How long an undo may take, whatever the caller's deadline was.
    pub(crate) close_grace: Duration,
    /// How long a container is frozen before its memory is taken back; `None` is never.
    pub(crate) reclaim_after: Option<Duration>,
    /// Where networks are configured.
    pub(crate) networks: NetworkSettings,
    /// The pool of prepared network namespaces, if there is one.
    pub(crate) pool: Option<PoolConfig>,
    /// How images are pulled.
    pub(crate) pulls: image::PullSettings,
    /// How much room images may take.
    pub(crate) cache: image::CacheSettings,
    /// What the engine is for.
    pub(crate) role: Role,
}

/// What an engine is for, which determines its background work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A long-lived process: it removes strays (see `reconcile`) at intervals.
    Server,
    /// A command, which ends soon: it saves facts about images for later commands, and takes care of containers that
    /// earlier commands have abandoned.
    Command,
    /// The same, for a command that lists all containers, once.
    List,
    /// It only reads, and changes nothing by itself.
    Observer,
}

/// The configuration of the pool.
#[derive(Debug, Clone)]
pub(crate) struct PoolConfig {
    /// The lowest and the highest number of slots.
    pub(crate) bounds: Bounds,
    /// The networks over which the slots are spread; empty means the default network.
    pub(crate) networks: Vec<String>,
    /// Whether a slot serves only one container.
    pub(crate) once: bool,
    /// The container that lives in each slot, if there is to be one. The pool fills in its id and its network.
    pub(crate) holder: Option<Plan>,
}
