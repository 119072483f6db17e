//! What can be wrong with a container's configuration.
//!
//! One variant per thing, each with the field and the value. All of them are the caller's (or the image's) fault; none
//! is worth a retry.

use std::path::PathBuf;

use crate::config::RlimitKind;

/// Why no spec can be made of this input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the crate's one error, named as callers write it: fnctr_oci::Error"
)]
pub enum Error {
    /// An argument that no program can be given.
    #[error(
        "the argument that begins with {start:?} has {length} bytes; the kernel takes less than 128 KiB in one"
    )]
    LongArgument {
        /// How it begins.
        start: String,
        /// Bytes.
        length: usize,
    },
    /// A variable that no program can be given.
    #[error("environment variable {name:?} has {length} bytes; the kernel takes less than 128 KiB in one")]
    LongVariable {
        /// Its name.
        name: String,
        /// Bytes.
        length: usize,
    },
    /// More than a program can be given.
    #[error("arguments and environment take {total} bytes; the kernel takes less than 2 MiB")]
    LongTotal {
        /// Bytes.
        total: usize,
    },
    /// Neither the request nor the image says what to run.
    #[error("there is no command: neither the request nor the image names one")]
    NoCommand,
    /// The first word of the command is empty.
    #[error("the first word of the command {args:?} is empty")]
    EmptyProgram {
        /// The whole command.
        args: Vec<String>,
    },
    /// An argument cannot be passed to a process.
    #[error("the argument {argument:?} contains a NUL byte")]
    NulInArgument {
        /// The argument.
        argument: String,
    },
    /// A name that no environment can hold.
    #[error(
        "the environment name {name:?} is not usable: it must not be empty nor contain '=' or a NUL byte"
    )]
    EnvName {
        /// The name.
        name: String,
    },
    /// A value that no environment can hold.
    #[error("the value of the environment variable {name} contains a NUL byte")]
    EnvValue {
        /// Whose value.
        name: String,
    },
    /// The image's environment is malformed.
    #[error("the image's environment entry {entry:?} is not of the form NAME=value")]
    ImageEnv {
        /// The entry.
        entry: String,
    },
    /// The working directory is not a place in the container.
    #[error("the working directory {path:?} is not usable: {why}")]
    Cwd {
        /// The directory.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a score that the kernel has.
    #[error("an oom_score_adj of {value} is not usable: the kernel takes -1000 to 1000")]
    OomScoreAdj {
        /// The score.
        value: i32,
    },
    /// Not a name of a host.
    #[error("the hostname {hostname:?} is not usable: {why}")]
    Hostname {
        /// The name.
        hostname: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The init cannot be mounted.
    #[error("the init {path:?} is not usable: {why}")]
    Init {
        /// The path on the host.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An annotation without a name.
    #[error("the name of an annotation is empty (its value is {value:?})")]
    AnnotationName {
        /// The annotation's value.
        value: String,
    },

    /// No such user in the image.
    #[error("the user {user:?} is not in the image's /etc/passwd")]
    UnknownUser {
        /// The name.
        user: String,
    },
    /// A user by name, in an image that names none.
    #[error("the user {user:?} cannot be resolved: the image has no /etc/passwd (a numeric id needs none)")]
    NoPasswd {
        /// The name.
        user: String,
    },
    /// No such group in the image.
    #[error("the group {group:?} is not in the image's /etc/group")]
    UnknownGroup {
        /// The name.
        group: String,
    },
    /// A group by name, in an image that names none.
    #[error("the group {group:?} cannot be resolved: the image has no /etc/group (a numeric id needs none)")]
    NoGroupFile {
        /// The name.
        group: String,
    },
    /// A number that is no id.
    #[error("the user or group id {id} is above 2147483647")]
    IdRange {
        /// The number, as written.
        id: String,
    },

    /// A mount goes to an impossible place.
    #[error("the mount destination {path:?} is not usable: {why}")]
    MountDestination {
        /// Where it should go.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A mount comes from an impossible place.
    #[error("the mount source {path:?} is not usable: {why}")]
    MountSource {
        /// Where it should come from.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two mounts go to the same place.
    #[error("two mounts have the destination {destination:?}")]
    DuplicateMount {
        /// The place.
        destination: String,
    },
    /// A tmpfs of an impossible size.
    #[error("the size of the tmpfs at {destination:?}, {size} bytes, is not usable: {why}")]
    TmpfsSize {
        /// Where the tmpfs goes.
        destination: PathBuf,
        /// Bytes.
        size: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A tmpfs whose root has an impossible mode.
    #[error("the tmpfs at {destination:?} cannot have the mode {mode:o}: 7777 is the most")]
    TmpfsMode {
        /// Where the tmpfs goes.
        destination: PathBuf,
        /// The mode.
        mode: u32,
    },
    /// A tmpfs with an impossible number of inodes.
    #[error("the tmpfs at {destination:?} cannot have {inodes} inodes: {why}")]
    TmpfsInodes {
        /// Where the tmpfs goes.
        destination: PathBuf,
        /// Number of inodes.
        inodes: u64,
        /// What is wrong with it.
        why: &'static str,
    },

    /// Too little memory to start anything.
    #[error("a memory limit of {bytes} bytes is below the minimum of {minimum} (6 MiB)")]
    MemoryTooSmall {
        /// The limit.
        bytes: u64,
        /// The least that is accepted.
        minimum: u64,
    },
    /// More memory than the kernel's interface can express.
    #[error("a memory limit of {bytes} bytes is above the maximum of 9223372036854775807")]
    MemoryTooLarge {
        /// The limit.
        bytes: u64,
    },
    /// The kernel kills a container as a whole on cgroup v2 only.
    #[error(
        "oom_group cannot be enforced: memory.oom.group exists on cgroup v2 alone, and this host keeps memory in a v1 \
         hierarchy; boot it with a unified cgroup tree, or leave oom_group unset"
    )]
    OomGroup,
    /// Less CPU time than the kernel hands out.
    #[error(
        "a CPU limit of {milli_cpus} thousandths is below the minimum of {minimum} (the kernel's 1 ms per 100 ms)"
    )]
    CpuTooSmall {
        /// Thousandths of a CPU.
        milli_cpus: u64,
        /// The least that is accepted.
        minimum: u64,
    },
    /// More CPU time than the kernel's interface can express.
    #[error("a CPU limit of {milli_cpus} thousandths is above the maximum of {maximum}")]
    CpuTooLarge {
        /// Thousandths of a CPU.
        milli_cpus: u64,
        /// The most that is accepted.
        maximum: u64,
    },
    /// Too few processes to run the command.
    #[error(
        "a limit of {pids} processes is below the minimum of {minimum} (the command, and the init if there is one)"
    )]
    PidsTooFew {
        /// The limit.
        pids: u64,
        /// The least that is accepted.
        minimum: u64,
    },
    /// More processes than the kernel's interface can express.
    #[error("a limit of {pids} processes is above the kernel's maximum of 4194304")]
    PidsTooMany {
        /// The limit.
        pids: u64,
    },

    /// A limit that `setrlimit` does not take.
    #[error("the value {value} of {kind} is not usable: {why}")]
    RlimitValue {
        /// Which limit.
        kind: RlimitKind,
        /// The soft or hard value.
        value: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Soft and hard limit are in the wrong order.
    #[error("the soft value {soft} of {kind} is above its hard value {hard}")]
    RlimitOrder {
        /// Which limit.
        kind: RlimitKind,
        /// Soft value.
        soft: u64,
        /// Hard value.
        hard: u64,
    },
    /// One limit is set twice.
    #[error("{kind} is set twice")]
    DuplicateRlimit {
        /// Which limit.
        kind: RlimitKind,
    },

    /// The network namespace cannot be joined.
    #[error("the path {path:?} of the network namespace is not usable: {why}")]
    NetworkPath {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A kernel parameter that a container cannot have of its own.
    #[error("the sysctl {name:?} is not usable: {why}")]
    Sysctl {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No such capability.
    #[error("there is no capability {name:?}")]
    UnknownCapability {
        /// The name.
        name: String,
    },
    /// A profile without a name.
    #[error("the name of the AppArmor profile is empty")]
    EmptyAppArmorProfile,

    /// Not a place in the cgroup hierarchy.
    #[error("the cgroup parent {parent:?} is not usable: {why}")]
    CgroupParent {
        /// The parent or slice.
        parent: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a name of a cgroup.
    #[error("the cgroup name {name:?} is not usable: {why}")]
    CgroupName {
        /// The id or prefix.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },

    /// A machine whose system calls are not known.
    #[error("there is no seccomp profile for the architecture {arch:?}")]
    UnknownArch {
        /// As the host names it.
        arch: String,
    },
    /// The runtime is not told where the root file system is.
    #[error("the path {path:?} of the root file system is not usable: {why}")]
    Rootfs {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}
