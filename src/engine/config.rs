//! Where the engine works and how.

use std::path::PathBuf;
use std::time::Duration;

use super::plan::Plan;
use super::runtime::Runtime;
use crate::Namespace;
use crate::cgroup::CgroupDriver;
use crate::image;
use crate::sandbox::NetworkSettings;
use crate::sandbox::pool::Bounds;

/// Where the engine works and how.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// containerd's socket.
    pub(crate) address: PathBuf,
    /// containerd namespace that holds everything of ours.
    pub(crate) namespace: Namespace,
    /// Directory for fifos and other things that die with the host.
    pub(crate) run_dir: PathBuf,
    /// containerd's name of the snapshotter.
    pub(crate) snapshotter: String,
    /// The runtime.
    pub(crate) runtime: Runtime,
    /// The host's init that becomes PID 1 of containers that want one.
    pub(crate) init: PathBuf,
    /// Who makes the containers' cgroups; [`Runtime`] has what came of it.
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
}

/// What the pool shall be.
#[derive(Debug, Clone)]
pub(crate) struct PoolConfig {
    /// The fewest and the most slots.
    pub(crate) bounds: Bounds,
    /// Over which networks they are spread; none is the default network.
    pub(crate) networks: Vec<String>,
    /// A slot serves one container.
    pub(crate) once: bool,
    /// The container that lives in each slot, if one shall; its id and its network are filled in.
    pub(crate) holder: Option<Plan>,
}
