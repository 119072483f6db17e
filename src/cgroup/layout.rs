//! How a host arranges its cgroups, as data.

/// How this host arranges its cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One v2 tree for everything.
    Unified,
    /// v1 controllers, and beside them a v2 tree that can freeze and kill containers.
    Hybrid,
    /// v1 alone.
    V1,
}

/// A version of the kernel's cgroup interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy per controller.
    V1,
    /// The unified tree.
    V2,
}

/// Which version of the interface can enforce each limit; `None` if this host cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Controllers {
    /// A quota of CPU time.
    pub(crate) cpu: Option<Version>,
    /// Pinning to CPUs.
    pub(crate) cpuset: Option<Version>,
    /// Bytes of memory.
    pub(crate) memory: Option<Version>,
    /// Number of processes.
    pub(crate) pids: Option<Version>,
    /// Disk bandwidth and its accounting.
    pub(crate) io: Option<Version>,
    /// Freezing. `V1` is slower, because it is polled; `None` leaves only the runtime's pause.
    pub(crate) freezer: Option<Version>,
    /// Killing a whole container with one write, even a frozen one (kernel 5.14).
    pub(crate) kill: bool,
    /// Taking memory back from a container (kernel 5.19, and memory in the v2 tree).
    pub(crate) reclaim: bool,
}
