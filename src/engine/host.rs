//! Facts about the host, including containerd's process.

use std::path::Path;

use fnctr_oci::CgroupVersion;

use crate::cgroup::{self, Ceilings, Controllers, Root, Version};

/// Facts about the host, looked up once.
#[derive(Debug)]
pub(super) struct HostFacts {
    pub(super) cgroups: Root,
    /// What its cgroups can limit.
    pub(super) controllers: Controllers,
    /// The limits of containerd's process: containers inherit them from it, and not from this process.
    pub(super) ceilings: Ceilings,
    /// containerd's.
    pub(super) oom_score_adj: i32,
    /// containerd's.
    pub(super) umask: u32,
    /// The pid of containerd when the engine connected, if its process is visible here.
    pub(super) daemon: Option<u32>,
    /// Whether containerd's pids belong to the pid namespace of this process.
    pub(super) shares_pids: bool,
    /// The network namespaces that count as the host's: that of containerd, which is the "host network" of a runtime,
    /// and that of this process.
    pub(super) networks: Vec<(u64, u64)>,
    /// The input of the translation to an OCI spec.
    pub(super) oci: fnctr_oci::Host,
}

impl HostFacts {
    /// Reads all facts. `visible` is the pid of containerd, if its process is visible here.
    ///
    /// # Errors
    /// The limits of containerd cannot be read.
    pub(super) fn read(cgroups: Root, visible: Option<u32>) -> Result<Self, cgroup::Error> {
        // A containerd in another pid namespace is not visible, and neither are its shims; the values of this process
        // are the best guess then.
        let daemon = visible.unwrap_or_else(std::process::id);
        let oci = fnctr_oci::Host {
            arch: std::env::consts::ARCH.to_owned(),
            kernel: kernel_version(),
            cgroup: cgroup_version(&cgroups),
            rootfs: "rootfs".to_owned(),
            sensitive_paths: sensitive_paths(),
            user_namespace: has_part_of_the_groups(),
        };
        Ok(Self {
            ceilings: Ceilings::of_pid(daemon)?,
            oom_score_adj: oom_score_adj(daemon),
            umask: umask(daemon),
            networks: [daemon, std::process::id()]
                .into_iter()
                .filter_map(network_of)
                .collect(),
            daemon: visible,
            shares_pids: visible.is_some_and(has_our_pids),
            oci,
            controllers: cgroups.controllers(),
            cgroups,
        })
    }
}

/// Whether a process is in the pid namespace of this one, so that its pids are ours. A process of a namespace below has
/// a pid here, and others there.
fn has_our_pids(pid: u32) -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/pid"));
    match (of(&pid.to_string()), of("self")) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        // Only root may read the first.
        _ => true,
    }
}

/// The kernel's version, major and minor; zeros, which compare as the oldest, if it cannot be read.
pub(super) fn kernel_version() -> (u32, u32) {
    // The same text as uname(2)'s release, without a system call wrapper.
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    parse_release(&text)
}

/// Which version of cgroups enforces limits.
pub(super) fn cgroup_version(root: &Root) -> CgroupVersion {
    match root.cgroup_version() {
        Version::V1 => CgroupVersion::V1,
        Version::V2 => CgroupVersion::V2,
    }
}

/// Makes the directory for fifos and similar files, which no other user may enter. An existing directory is left as it
/// is. A full or read-only file system is no error, because operations that need no new file still work: containers can
/// be listed, frozen, killed and removed.
pub(super) fn make_private(dir: &Path) -> std::io::Result<()> {
    use std::io::ErrorKind;
    use std::os::unix::fs::DirBuilderExt as _;

    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            tracing::warn!(%error, dir = %dir.display(), "cannot make the directory for containers' files, so no container can be created");
            Ok(())
        }
        made => made,
    }
}

/// The network namespace of a process; `None` if the process has ended. The two numbers identify a namespace
/// (namespaces(7)).
pub(super) fn network_of(pid: u32) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;

    let namespace = std::fs::metadata(format!("/proc/{pid}/ns/net")).ok()?;
    Some((namespace.dev(), namespace.ino()))
}

/// The two numbers of a namespace that is open.
pub(super) fn namespace_of(open: &std::fs::File) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;

    let namespace = open.metadata().ok()?;
    Some((namespace.dev(), namespace.ino()))
}

/// The namespaces of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occupant {
    pub(super) network: (u64, u64),
    pub(super) pids: Option<(u64, u64)>,
}

/// The namespaces of all processes that are visible here.
pub(super) fn occupants() -> Vec<Occupant> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let occupant = |pid| {
        Some(Occupant {
            network: network_of(pid)?,
            pids: pids_of(pid),
        })
    };
    pids.filter_map(occupant).collect()
}

/// The pid namespace of a process; `None` if the process has ended.
pub(super) fn pids_of(pid: u32) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;

    let namespace = std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?;
    Some((namespace.dev(), namespace.ino()))
}

/// The OOM score adjustment of a process (proc_pid_oom_score_adj(5)); 0 if it cannot be read.
pub(super) fn oom_score_adj(pid: u32) -> i32 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// The umask of a process (umask(2)); 022 if it cannot be read.
pub(super) fn umask(pid: u32) -> u32 {
    parse_umask(&std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
}

fn parse_umask(status: &str) -> u32 {
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask
        .and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok())
        .unwrap_or(0o022)
}

/// Whether this process is in a user namespace that maps only a part of all group ids (user_namespaces(7)).
pub(super) fn has_part_of_the_groups() -> bool {
    std::fs::read_to_string("/proc/self/gid_map").is_ok_and(|map| !is_whole(&map))
}

/// Whether a map of ids contains all ids.
fn is_whole(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// The directories that Docker masks in addition to its fixed list, if the CPU has them: a CPU's temperature reveals
/// which containers are neighbours.
pub(super) fn sensitive_paths() -> Vec<String> {
    let cpus = std::fs::read_dir("/sys/devices/system/cpu")
        .into_iter()
        .flatten()
        .flatten();
    let mut paths: Vec<_> = cpus
        .filter_map(|cpu| {
            let dir = cpu.path().join("thermal_throttle");
            dir.is_dir().then(|| dir.to_string_lossy().into_owned())
        })
        .collect();
    paths.sort();
    paths
}

fn parse_release(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or_default());
    (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_umask_is_octal_and_an_old_kernel_reports_none() {
        assert_eq!(parse_umask("Name:\tcontainerd\nUmask:\t0077\nState:\tS\n"), 0o077);
        assert_eq!(parse_umask("Name:\tcontainerd\n"), 0o022);
        assert_eq!(umask(std::process::id()) & !0o777, 0);
    }

    #[test]
    fn only_the_first_user_namespace_has_all_groups() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("         0     100000      65536\n"));
        assert!(!is_whole("0 0 1000\n1000 1000 4294966295\n"));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error_unless_the_disk_is_full() {
        let top = tempfile::tempdir().unwrap();
        std::fs::write(top.path().join("file"), "").unwrap();
        make_private(&top.path().join("file/below")).unwrap_err();
        make_private(&top.path().join("a/b")).unwrap();
    }

    #[test]
    fn major_and_minor_are_the_first_two_numbers() {
        assert_eq!(parse_release("6.18.44-fc-v669\n"), (6, 18));
        assert_eq!(parse_release("5.10.0-28-amd64"), (5, 10));
        assert_eq!(parse_release("6.1+"), (6, 1));
        assert_eq!(parse_release(""), (0, 0));
    }
}
