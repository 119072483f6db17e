//! The content of a spec before any request of the caller.
//!
//! `oci-spec` fills unset fields with content of its own (a hostname, capabilities, mounts, an rlimit). Here every such
//! field is cleared by name, once, and everything that each container gets is listed. So this is the only file that may
//! start from the defaults of `Spec`, `Process`, `Linux` and `LinuxCapabilities`.

use std::path::PathBuf;

use oci_spec::runtime::{
    Capabilities, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxDeviceType, Mount, Process, Root, Spec,
    User,
};

use crate::error::Error;

/// No field used here is newer than this version. A runtime refuses a major version that it does not know, and some
/// warn of unknown minor ones.
const OCI_VERSION: &str = "1.0.2";

/// The paths of /proc and /sys that are hidden, as in Docker 28.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// The paths of /proc that are read-only, as in Docker 28.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A spec with a version and nothing else.
pub(crate) fn spec() -> Spec {
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(None)
        .set_mounts(None)
        .set_process(None)
        .set_hostname(None)
        .set_domainname(None)
        .set_hooks(None)
        .set_annotations(None)
        .set_linux(None)
        .set_solaris(None)
        .set_windows(None)
        .set_vm(None)
        .set_zos(None);
    spec
}

/// The root file system, at the path where the runtime finds it.
pub(crate) fn root(path: &str, readonly: bool) -> Result<Root, Error> {
    let refuse = |why| {
        Err(Error::Rootfs {
            path: path.to_owned(),
            why,
        })
    };
    if path.is_empty() {
        return refuse("it is empty");
    }
    if path.contains('\0') {
        return refuse("it contains a NUL byte");
    }
    let mut root = Root::default();
    root.set_path(PathBuf::from(path)).set_readonly(Some(readonly));
    Ok(root)
}

/// A process of root, without arguments, environment, capabilities and limits.
pub(crate) fn process() -> Process {
    let mut process = Process::default();
    process
        .set_terminal(None)
        .set_console_size(None)
        .set_user(User::default())
        .set_args(None)
        .set_command_line(None)
        .set_env(None)
        .set_cwd(PathBuf::from("/"))
        .set_capabilities(None)
        .set_rlimits(None)
        .set_no_new_privileges(None)
        .set_apparmor_profile(None)
        .set_oom_score_adj(None)
        .set_selinux_label(None)
        .set_io_priority(None)
        .set_scheduler(None)
        .set_exec_cpu_affinity(None);
    process
}

/// All five sets, explicitly empty: for an absent set the runtime would choose.
pub(crate) fn no_capabilities() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    none.set_bounding(Some(Capabilities::new()))
        .set_effective(Some(Capabilities::new()))
        .set_inheritable(Some(Capabilities::new()))
        .set_permitted(Some(Capabilities::new()))
        .set_ambient(Some(Capabilities::new()));
    none
}

/// An empty Linux section.
pub(crate) fn linux() -> Linux {
    let mut linux = Linux::default();
    linux
        .set_net_devices(None)
        .set_uid_mappings(None)
        .set_gid_mappings(None)
        .set_sysctl(None)
        .set_resources(None)
        .set_cgroups_path(None)
        .set_namespaces(None)
        .set_devices(None)
        .set_seccomp(None)
        .set_rootfs_propagation(None)
        .set_masked_paths(None)
        .set_readonly_paths(None)
        .set_mount_label(None)
        .set_intel_rdt(None)
        .set_memory_policy(None)
        .set_personality(None)
        .set_time_offsets(None);
    linux
}

/// One mount.
pub(crate) fn mount(destination: &str, kind: &str, source: &str, options: Vec<String>) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(Some(options));
    mount
}

/// The file systems that every container has, as in Docker.
///
/// Language runtimes read their limits from `/sys/fs/cgroup`. Without it a JVM sizes its heap, and Go, Node and .NET
/// their threads, by the host, and the kernel kills them. The type `cgroup` is the OCI runtime's name for "the
/// hierarchies of this host": one cgroup2 mount, or a tmpfs with a mount for each v1 hierarchy. In the container's
/// cgroup namespace, these are read-only mounts of its own cgroup. As in Docker, runc leaves the tmpfs itself writable
/// for the container's root; its content counts as memory of the container.
pub(crate) fn mounts() -> Vec<Mount> {
    let table: [(&str, &str, &str, &[&str]); 7] = [
        ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        (
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            // gid 5 is tty, by convention.
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        (
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        (
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
    ];
    table
        .into_iter()
        .map(|(destination, kind, source, options)| {
            mount(
                destination,
                kind,
                source,
                options.iter().map(|&option| option.to_owned()).collect(),
            )
        })
        .collect()
}

/// The devices that a container may open, as in Docker 28: only those that the runtime itself creates. The runtime adds
/// pseudo-terminals on its own.
pub(crate) fn devices() -> Vec<LinuxDeviceCgroup> {
    let zero = (1, 5);
    let null = (1, 3);
    let urandom = (1, 9);
    let random = (1, 8);
    let tty = (5, 0);
    let console = (5, 1);
    let fuse = (10, 229);
    let mut rules = vec![device(false, None)];
    rules.extend([zero, null, urandom, random, tty, console].map(|number| device(true, Some(number))));
    rules.push(device(false, Some(fuse)));
    rules
}

/// A rule for one character device, or for all devices.
fn device(allow: bool, number: Option<(i64, i64)>) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(number.map(|_| LinuxDeviceType::C))
        .set_major(number.map(|(major, _)| major))
        .set_minor(number.map(|(_, minor)| minor))
        .set_access(Some("rwm".to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_empty_spec_is_empty() {
        assert_eq!(
            serde_json::to_value(spec()).unwrap(),
            json!({ "ociVersion": "1.0.2" })
        );
        assert_eq!(serde_json::to_value(linux()).unwrap(), json!({}));
        assert_eq!(
            serde_json::to_value(process()).unwrap(),
            json!({ "user": { "uid": 0, "gid": 0 }, "cwd": "/" })
        );
        let none =
            json!({ "bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": [] });
        assert_eq!(serde_json::to_value(no_capabilities()).unwrap(), none);
    }

    #[test]
    fn a_root_without_a_path_is_refused() {
        assert!(root("", true).is_err());
        assert!(root("a\0b", true).is_err());
        assert!(root("rootfs", true).is_ok());
    }
}
