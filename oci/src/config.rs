//! The description of a container as plain data: the input of [`crate::spec`].
//!
//! Absence is `None` here; a caller in whose interface 0 means "unlimited" must convert it first. This file makes no
//! decisions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything that the caller decides about one container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerConfig {
    /// Replaces the image's Entrypoint, and with it the image's Cmd. `None` keeps the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's Cmd. `None` keeps the image's.
    pub command: Option<Vec<String>>,
    /// Added to the image's environment; on a clash this value wins.
    pub env: Vec<(String, String)>,
    /// Variables that the process does not get: neither the image's nor those that are always set, such as `PATH`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_removed: Vec<String>,
    /// Working directory; `None` is the image's, else `/`.
    pub cwd: Option<String>,
    /// `name`, `uid`, `name:group`, `uid:gid` …; `None` is the image's, else root.
    pub user: Option<String>,
    /// Groups in addition to those that the image's files give the user.
    pub additional_groups: Vec<String>,
    /// Hostname inside; `None` leaves it unset.
    pub hostname: Option<String>,
    /// Whether the standard streams are one terminal: everything comes through standard output, and the end of what feeds the
    /// input is no end for the process, which it would hang up.
    pub terminal: bool,
    /// The height and width of the terminal, in characters, if they are known already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<(u16, u16)>,
    /// An init on the host that becomes PID 1, reaps processes and forwards signals; mounted read-only. With `None` the
    /// command is PID 1.
    pub init: Option<PathBuf>,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// Mounts in addition to the default ones.
    pub mounts: Vec<Mount>,
    /// Limits that cgroups enforce.
    pub resources: Resources,
    /// Limits that the kernel enforces per process or user.
    pub rlimits: Vec<Rlimit>,
    /// Capabilities, seccomp and paths.
    pub security: SecurityContext,
    /// The network namespace.
    pub network: NetworkMode,
    /// The place of the container's cgroup.
    pub cgroup: Cgroup,
    /// How likely the host's out-of-memory killer is to select the process; `None` inherits the runtime's own value.
    pub oom_score_adj: Option<i32>,
    /// Kernel parameters of the container's own namespaces, e.g. `net.ipv4.ip_unprivileged_port_start`.
    pub sysctls: BTreeMap<String, String>,
    /// Passed to the runtime and to hooks.
    pub annotations: BTreeMap<String, String>,
}

/// Limits that cgroups enforce. `None` is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Bytes of memory; a limit also forbids swap.
    pub memory: Option<u64>,
    /// Bytes of memory that the kernel leaves to the container as long as it can: `memory.low`, and on v1
    /// `memory.soft_limit_in_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<u64>,
    /// Thousandths of a CPU.
    pub milli_cpus: Option<u64>,
    /// Its part of the CPUs if other cgroups want them too, in proportion to theirs: 2 to 262144, and 1024 without a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// The CPUs that it may use, as in `0-2,4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    /// The memory nodes that it may use, as in `0,1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
    /// When memory runs out, the kernel kills all processes of the container and not only one (`memory.oom.group`), so
    /// that no part of a function survives. Requires cgroup v2.
    pub oom_group: bool,
}

/// Limits that change while a container exists. `None` leaves a limit as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourcesUpdate {
    /// Bytes of memory; a limit also forbids swap.
    pub memory: Option<Limit>,
    /// See [`Resources::memory_reservation`].
    pub memory_reservation: Option<u64>,
    /// Thousandths of a CPU.
    pub milli_cpus: Option<Limit>,
    /// See [`Resources::cpu_shares`].
    pub cpu_shares: Option<u64>,
    /// See [`Resources::cpuset_cpus`].
    pub cpuset_cpus: Option<String>,
    /// See [`Resources::cpuset_mems`].
    pub cpuset_mems: Option<String>,
    /// Number of processes and threads.
    pub pids: Option<Limit>,
}

/// A limit that takes the place of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// None.
    Unlimited,
    /// This value.
    At(u64),
}

/// One limit of `setrlimit(2)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// The limit.
    pub kind: RlimitKind,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// The limits of `setrlimit(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RlimitKind {
    /// RLIMIT_AS: bytes of address space.
    AddressSpace,
    /// RLIMIT_CORE: bytes of a core dump.
    CoreSize,
    /// RLIMIT_CPU: seconds of processor time.
    CpuTime,
    /// RLIMIT_DATA: bytes of data segments.
    DataSize,
    /// RLIMIT_FSIZE: bytes of a file that the process writes.
    FileSize,
    /// RLIMIT_LOCKS: file locks; current kernels do not enforce it.
    FileLocks,
    /// RLIMIT_NICE: 20 minus the lowest nice value.
    Nice,
    /// RLIMIT_NPROC: processes and threads of the user, on the whole host.
    Processes,
    /// RLIMIT_RSS: bytes of resident memory; current kernels do not enforce it.
    ResidentSet,
    /// RLIMIT_RTPRIO: real-time priority.
    RealtimePriority,
    /// RLIMIT_RTTIME: microseconds without a blocking call under real-time scheduling.
    RealtimeTime,
    /// RLIMIT_STACK: bytes of the stack.
    Stack,
    /// RLIMIT_NOFILE: open file descriptors.
    OpenFiles,
    /// RLIMIT_MEMLOCK: bytes locked into RAM.
    LockedMemory,
    /// RLIMIT_SIGPENDING: queued signals.
    PendingSignals,
    /// RLIMIT_MSGQUEUE: bytes in POSIX message queues.
    MessageQueue,
}

/// A mount that the caller requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mount {
    /// A directory or file of the host.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// Absolute path in the container.
        destination: PathBuf,
        /// Whether the mount is read-only.
        readonly: bool,
    },
    /// A file system in memory: nosuid, nodev.
    Tmpfs {
        /// Absolute path in the container.
        destination: PathBuf,
        /// Bytes; `None` is the kernel's default, half of the memory.
        size: Option<u64>,
        /// Number of files and directories; `None` is the kernel's default.
        inodes: Option<u64>,
        /// The access rights in it.
        #[serde(default)]
        access: TmpfsAccess,
    },
}

/// The access rights in a tmpfs. By default every user may write and no user may execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TmpfsAccess {
    /// The mode of its root directory; the default is 1777.
    pub mode: u32,
    /// Owner of its root directory; `None` is root.
    pub uid: Option<u32>,
    /// Group of its root directory; `None` is root's.
    pub gid: Option<u32>,
    /// Whether programs in it may be executed.
    pub exec: bool,
    /// Whether the tmpfs is read-only.
    pub readonly: bool,
}

impl Default for TmpfsAccess {
    fn default() -> Self {
        Self {
            mode: 0o1777,
            uid: None,
            gid: None,
            exec: false,
            readonly: false,
        }
    }
}

/// Capabilities, seccomp and paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityContext {
    /// Which capabilities the process may have.
    pub capabilities: Capabilities,
    /// Whether `execve` is prevented from granting privileges.
    pub no_new_privileges: bool,
    /// The filter of system calls.
    pub seccomp: Seccomp,
    /// Whether the usual sensitive paths of /proc and /sys are masked or read-only.
    pub protect_paths: bool,
    /// AppArmor profile; `None` leaves it unset.
    pub apparmor_profile: Option<String>,
}

impl Default for SecurityContext {
    /// Least privilege.
    fn default() -> Self {
        Self {
            capabilities: Capabilities::None,
            no_new_privileges: true,
            seccomp: Seccomp::Default,
            protect_paths: true,
            apparmor_profile: None,
        }
    }
}

/// Which capabilities a container's process may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capabilities {
    /// No capabilities.
    #[default]
    None,
    /// The 14 capabilities of Docker's default.
    Docker,
    /// Only these, named as in `CAP_CHOWN`.
    Only(Vec<String>),
}

/// A filter of system calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// Docker's default profile, resolved for this host and these capabilities.
    #[default]
    Default,
    /// No filter.
    Unconfined,
}

/// The network namespace that a container joins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A new one with loopback only.
    #[default]
    None,
    /// The host's.
    Host,
    /// An existing one, pinned at this path.
    Join(PathBuf),
}

/// The place of a container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cgroup {
    /// The runtime chooses.
    #[default]
    Unset,
    /// `PARENT/ID` below the root of each hierarchy.
    Cgroupfs {
        /// Absolute, e.g. `/fnctr`.
        parent: String,
        /// The container's id.
        id: String,
    },
    /// `SLICE:PREFIX:ID`, for the runtime's systemd driver.
    Systemd {
        /// e.g. `system.slice`.
        slice: String,
        /// e.g. `fnctr`.
        prefix: String,
        /// The container's id.
        id: String,
    },
}

/// The part of an image's configuration that a container uses, and the users and groups in its root file system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    /// `NAME=value` lines.
    pub env: Vec<String>,
    /// The image's Entrypoint.
    pub entrypoint: Vec<String>,
    /// The image's Cmd.
    pub cmd: Vec<String>,
    /// The image's working directory; empty is `/`.
    pub working_dir: String,
    /// The image's user; empty is root.
    pub user: String,
    /// Text of /etc/passwd in the root file system; `None` if there is no such file.
    pub passwd: Option<String>,
    /// Text of /etc/group in the root file system; `None` if there is no such file.
    pub group: Option<String>,
    /// Directories that stay writable when the root file system is read-only. Each must exist in the root file system,
    /// with no symbolic link in its path, because the runtime resolves the path on the host.
    pub volumes: Vec<String>,
}

/// What a caller chooses for an additional process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecConfig {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `NAME=value` replaces or adds a variable of the container's, `NAME` alone removes it.
    pub env: Vec<String>,
    /// The working directory, an absolute path; `None` is the container's.
    pub cwd: Option<String>,
    /// `name[:group]` or `uid[:gid]`; `None` is the container's.
    pub user: Option<String>,
    /// Whether the standard streams are one terminal.
    pub terminal: bool,
    /// The height and width of the terminal, in characters, if they are known already.
    pub console_size: Option<(u16, u16)>,
}

/// The container's files of users and groups, for a user that is given by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFiles {
    /// The text of `/etc/passwd`; `None` if there is no such file.
    pub passwd: Option<String>,
    /// The text of `/etc/group`; `None` if there is no such file.
    pub group: Option<String>,
}

/// The properties of the host that the translation depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The architecture, as Rust names it: `x86_64`, `aarch64` …
    pub arch: String,
    /// Kernel version, major and minor.
    pub kernel: (u32, u32),
    /// Which cgroup version holds the resource controllers.
    pub cgroup: CgroupVersion,
    /// Path of the root file system as the runtime sees it (containerd mounts it at `rootfs`).
    pub rootfs: String,
    /// Paths to mask in addition to the usual ones, because this host has them: Docker 28 masks
    /// `/sys/devices/system/cpu/cpuN/thermal_throttle` of every CPU that has it.
    #[serde(default)]
    pub sensitive_paths: Vec<String>,
    /// Whether the host is itself in a user namespace, and so has only a part of all users and groups.
    #[serde(default)]
    pub user_namespace: bool,
}

/// Which cgroup version holds the resource controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupVersion {
    /// v1, which includes hybrid hosts.
    V1,
    /// The unified hierarchy.
    V2,
}
