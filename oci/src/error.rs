//! Errors in a container's configuration.
//!
//! One variant per error, with the field and the value. All of them are the caller's (or the image's) fault; none is
//! worth a retry.

use std::path::PathBuf;

use crate::config::RlimitKind;

/// Why this input cannot be translated into a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the crate's one error, named as callers write it: fnctr_oci::Error"
)]
pub enum Error {
    /// An argument is too long for any program.
    #[error(
        "the argument that begins with {start:?} has {length} bytes; the kernel takes less than 128 KiB in one"
    )]
    LongArgument {
        /// The start of the argument.
        start: String,
        /// The length in bytes.
        length: usize,
    },
    /// A variable is too long for any program.
    #[error("environment variable {name:?} has {length} bytes; the kernel takes less than 128 KiB in one")]
    LongVariable {
        /// The name of the variable.
        name: String,
        /// The length in bytes.
        length: usize,
    },
    /// The arguments and the environment are together too long for any program.
    #[error("arguments and environment take {total} bytes; the kernel takes less than 2 MiB")]
    LongTotal {
        /// The total length in bytes.
        total: usize,
    },
    /// Neither the request nor the image names a command.
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
    /// The name of a variable is not allowed in an environment.
    #[error(
        "the environment name {name:?} is not usable: it must not be empty nor contain '=' or a NUL byte"
    )]
    EnvName {
        /// The name.
        name: String,
    },
    /// The value of a variable is not allowed in an environment.
    #[error("the value of the environment variable {name} contains a NUL byte")]
    EnvValue {
        /// The name of the variable.
        name: String,
    },
    /// The image's environment is malformed.
    #[error("the image's environment entry {entry:?} is not of the form NAME=value")]
    ImageEnv {
        /// The entry.
        entry: String,
    },
    /// The working directory is not a valid path in the container.
    #[error("the working directory {path:?} is not usable: {why}")]
    Cwd {
        /// The directory.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The score is outside the kernel's range.
    #[error("an oom_score_adj of {value} is not usable: the kernel takes -1000 to 1000")]
    OomScoreAdj {
        /// The score.
        value: i32,
    },
    /// The hostname is not valid.
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
    /// The name of an annotation is empty.
    #[error("the name of an annotation is empty (its value is {value:?})")]
    AnnotationName {
        /// The annotation's value.
        value: String,
    },

    /// The image does not contain this user.
    #[error("the user {user:?} is not in the image's /etc/passwd")]
    UnknownUser {
        /// The name.
        user: String,
    },
    /// The user is given by name, but the image has no file of users.
    #[error("the user {user:?} cannot be resolved: the image has no /etc/passwd (a numeric id needs none)")]
    NoPasswd {
        /// The name.
        user: String,
    },
    /// The image does not contain this group.
    #[error("the group {group:?} is not in the image's /etc/group")]
    UnknownGroup {
        /// The name.
        group: String,
    },
    /// The group is given by name, but the image has no file of groups.
    #[error("the group {group:?} cannot be resolved: the image has no /etc/group (a numeric id needs none)")]
    NoGroupFile {
        /// The name.
        group: String,
    },
    /// The number is too large for a user or group id.
    #[error("the user or group id {id} is above 2147483647")]
    IdRange {
        /// The number, as written.
        id: String,
    },

    /// The destination of a mount is not usable.
    #[error("the mount destination {path:?} is not usable: {why}")]
    MountDestination {
        /// The destination.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The source of a mount is not usable.
    #[error("the mount source {path:?} is not usable: {why}")]
    MountSource {
        /// The source.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two mounts have the same destination.
    #[error("two mounts have the destination {destination:?}")]
    DuplicateMount {
        /// The destination.
        destination: String,
    },
    /// The size of a tmpfs is not usable.
    #[error("the size of the tmpfs at {destination:?}, {size} bytes, is not usable: {why}")]
    TmpfsSize {
        /// The destination of the tmpfs.
        destination: PathBuf,
        /// The size in bytes.
        size: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The mode of a tmpfs's root directory is not usable.
    #[error("the tmpfs at {destination:?} cannot have the mode {mode:o}: 7777 is the most")]
    TmpfsMode {
        /// The destination of the tmpfs.
        destination: PathBuf,
        /// The mode.
        mode: u32,
    },
    /// The number of inodes of a tmpfs is not usable.
    #[error("the tmpfs at {destination:?} cannot have {inodes} inodes: {why}")]
    TmpfsInodes {
        /// The destination of the tmpfs.
        destination: PathBuf,
        /// Number of inodes.
        inodes: u64,
        /// What is wrong with it.
        why: &'static str,
    },

    /// The memory limit, or reservation, is too small to start a process.
    #[error("a {what} of {bytes} bytes is below the minimum of {minimum} (6 MiB)")]
    MemoryTooSmall {
        /// Which of the two.
        what: &'static str,
        /// The limit.
        bytes: u64,
        /// The smallest limit that is accepted.
        minimum: u64,
    },
    /// The memory limit, or reservation, exceeds the range of the kernel's interface.
    #[error("a {what} of {bytes} bytes is above the maximum of 9223372036854775807")]
    MemoryTooLarge {
        /// Which of the two.
        what: &'static str,
        /// The limit.
        bytes: u64,
    },
    /// More is reserved than the container may use.
    #[error("a memory reservation of {reservation} bytes is above the memory limit of {bytes}")]
    Reservation {
        /// The reservation.
        reservation: u64,
        /// The limit.
        bytes: u64,
    },
    /// The kernel accepts no such weight.
    #[error("{shares} CPU shares are out of range: there are 2 to 262144, and 1024 is the default")]
    CpuShares {
        /// The number of shares.
        shares: u64,
    },
    /// A set of CPUs or of memory nodes that is none.
    #[error("{list:?} is not a list of {what}, such as 0-2,4")]
    Cpuset {
        /// What it is a set of.
        what: &'static str,
        /// The list.
        list: String,
    },
    /// The group kill of the kernel exists only on cgroup v2.
    #[error(
        "oom_group cannot be enforced: memory.oom.group exists on cgroup v2 alone, and this host keeps memory in a v1 \
         hierarchy; boot it with a unified cgroup tree, or leave oom_group unset"
    )]
    OomGroup,
    /// The CPU limit is smaller than the kernel's minimum.
    #[error(
        "a CPU limit of {milli_cpus} thousandths is below the minimum of {minimum} (the kernel's 1 ms per 100 ms)"
    )]
    CpuTooSmall {
        /// Thousandths of a CPU.
        milli_cpus: u64,
        /// The smallest limit that is accepted.
        minimum: u64,
    },
    /// The CPU limit exceeds the range of the kernel's interface.
    #[error("a CPU limit of {milli_cpus} thousandths is above the maximum of {maximum}")]
    CpuTooLarge {
        /// Thousandths of a CPU.
        milli_cpus: u64,
        /// The largest limit that is accepted.
        maximum: u64,
    },
    /// The limit of processes is too small to run the command.
    #[error(
        "a limit of {pids} processes is below the minimum of {minimum} (the command, and the init if there is one)"
    )]
    PidsTooFew {
        /// The limit.
        pids: u64,
        /// The smallest limit that is accepted.
        minimum: u64,
    },
    /// The limit of processes exceeds the range of the kernel's interface.
    #[error("a limit of {pids} processes is above the kernel's maximum of 4194304")]
    PidsTooMany {
        /// The limit.
        pids: u64,
    },

    /// `setrlimit` does not accept the value.
    #[error("the value {value} of {kind} is not usable: {why}")]
    RlimitValue {
        /// Which limit.
        kind: RlimitKind,
        /// The soft or hard value.
        value: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The soft limit is above the hard limit.
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
    /// The kernel parameter cannot be set for a container.
    #[error("the sysctl {name:?} is not usable: {why}")]
    Sysctl {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The capability does not exist.
    #[error("there is no capability {name:?}")]
    UnknownCapability {
        /// The name.
        name: String,
    },
    /// The name of the AppArmor profile is empty.
    #[error("the name of the AppArmor profile is empty")]
    EmptyAppArmorProfile,

    /// The parent is not a valid place in the cgroup hierarchy.
    #[error("the cgroup parent {parent:?} is not usable: {why}")]
    CgroupParent {
        /// The parent or slice.
        parent: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The id or prefix is not a valid name of a cgroup.
    #[error("the cgroup name {name:?} is not usable: {why}")]
    CgroupName {
        /// The id or prefix.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },

    /// The seccomp profile does not cover this architecture.
    #[error("there is no seccomp profile for the architecture {arch:?}")]
    UnknownArch {
        /// The architecture, as the host names it.
        arch: String,
    },
    /// The path of the root file system is not usable.
    #[error("the path {path:?} of the root file system is not usable: {why}")]
    Rootfs {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}
