//! The features of the kernel.

use super::Check;
use super::cgroup::Layout;
use super::remedies::{MOUNT_PROC, NEWER_KERNEL};

/// The oldest kernel that containerd's shims and this project are used on.
const OLDEST: (u32, u32) = (4, 15);

/// The first kernel with `cgroup.kill`.
const KILL: (u32, u32) = (5, 14);

/// The first kernel with `memory.reclaim`.
const RECLAIM: (u32, u32) = (5, 19);

/// The features that the running kernel was found to have.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Features {
    pub(super) openat2: bool,
    pub(super) pidfd: bool,
    pub(super) pressure: bool,
    pub(super) seccomp: bool,
}

/// Parses a kernel release: `6.1.0-18-amd64` is 6.1.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Checks the kernel's version and its features.
pub(super) fn features(release: &str, features: &Features) -> Check {
    const NAME: &str = "kernel";
    let release = release.trim();
    let Some(version) = version(release) else {
        return Check::warn(NAME, format!("its version {release:?} is unknown"), MOUNT_PROC);
    };
    if version < OLDEST {
        let found = format!("{release} is too old: 4.15 or newer is required");
        return Check::bad(NAME, found, NEWER_KERNEL);
    }
    if !features.seccomp {
        let found = format!("{release} has no seccomp, which every function runs under");
        return Check::bad(NAME, found, NEWER_KERNEL);
    }
    let calls = [(features.openat2, "openat2"), (features.pidfd, "pidfd")];
    let mut missing: Vec<_> = calls
        .iter()
        .filter(|(has, _)| !has)
        .map(|(_, name)| *name)
        .collect();
    let mend = if missing.is_empty() {
        "boot with psi=1 on the kernel's command line"
    } else {
        NEWER_KERNEL
    };
    if !features.pressure {
        missing.push("pressure figures");
    }
    if missing.is_empty() {
        let found = format!("{release} with seccomp, openat2, pidfd and pressure figures");
        return Check::ok(NAME, found);
    }
    Check::warn(NAME, format!("{release} without {}", missing.join(", ")), mend)
}

/// Whether a whole function can be killed with one write.
pub(super) fn kill(release: &str, layout: &Layout) -> Check {
    const NAME: &str = "cgroup.kill";
    match version(release) {
        _ if !layout.has_v2() => Check::warn(
            NAME,
            "no v2 tree, so processes are killed one by one",
            layout.mount_v2(),
        ),
        Some(version) if version >= KILL => Check::ok(NAME, "a function is killed with one write"),
        _ => Check::warn(
            NAME,
            "needs kernel 5.14, so processes are killed one by one",
            NEWER_KERNEL,
        ),
    }
}

/// Whether memory can be taken back from a frozen function. A host that cannot is no problem, because it is off by
/// default. `unified` is whether memory is controlled in the v2 tree.
pub(super) fn reclaim(release: &str, unified: bool) -> Check {
    const NAME: &str = "reclaim";
    let found = match version(release) {
        _ if !unified => {
            "memory of frozen functions cannot be taken back: that requires unified cgroups (systemd.unified_cgroup_hierarchy=1)"
        }
        Some(version) if version >= RECLAIM => "memory of frozen functions can be taken back",
        _ => "memory of frozen functions cannot be taken back: that requires kernel 5.19",
    };
    Check::ok(NAME, found)
}

/// Whether a memory limit is also a limit of swap. `counted` is whether the memory controller has a file for it.
pub(super) fn swap(swaps: &str, counted: bool) -> Check {
    const NAME: &str = "swap";
    // The first line is the heading.
    let areas = swaps
        .lines()
        .skip(1)
        .filter(|line| !line.trim().is_empty())
        .count();
    match (areas, counted) {
        (0, _) => Check::ok(NAME, "none, so a memory limit is the whole limit"),
        (_, true) => Check::ok(NAME, "on, and counted with memory"),
        (_, false) => Check::warn(
            NAME,
            "on, but not seen to be counted: a function at its limit may swap",
            "swapoff -a, or boot with swapaccount=1 on the kernel's command line",
        ),
    }
}

/// Whether AppArmor is on; `enabled` is its parameter file, absent where the kernel lacks it.
pub(super) fn apparmor(enabled: &str) -> Check {
    const NAME: &str = "apparmor";
    Check::ok(
        NAME,
        match enabled.trim() {
            "Y" => "on; functions run without a profile of their own",
            _ => "off; seccomp, capabilities and masked paths confine functions",
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    const ALL: Features = Features {
        openat2: true,
        pidfd: true,
        pressure: true,
        seccomp: true,
    };

    #[test]
    fn versions_of_every_distribution_are_read() {
        for (release, expected) in [
            ("6.1.0-18-amd64\n", (6, 1)),
            ("5.14.0-427.el9.x86_64", (5, 14)),
            ("6.18.44-fc-v669", (6, 18)),
            ("4.15-rc1", (4, 15)),
        ] {
            assert_eq!(version(release), Some(expected), "{release}");
        }
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(features("6.1.0", &ALL).status, Status::Ok);
        let old = Features {
            openat2: false,
            pidfd: false,
            ..ALL
        };
        let check = features("5.2.0", &old);
        assert_eq!(
            (check.status, check.found.as_str()),
            (Status::Warn, "5.2.0 without openat2, pidfd")
        );
        let quiet = Features {
            pressure: false,
            ..ALL
        };
        let check = features("6.1.0", &quiet);
        assert_eq!(check.found, "6.1.0 without pressure figures");
        assert!(check.mend.unwrap().contains("psi=1"));
        assert_eq!(features("3.10.0-1160.el7", &ALL).status, Status::Bad);
        assert_eq!(
            features(
                "6.1.0",
                &Features {
                    seccomp: false,
                    ..ALL
                }
            )
            .status,
            Status::Bad
        );
    }

    #[test]
    fn killing_at_once_needs_both_the_kernel_and_the_tree() {
        let v2 = Layout::of(include_str!("../../fixtures/doctor/hybrid.mountinfo"), "");
        let v1 = Layout::of(include_str!("../../fixtures/doctor/v1.mountinfo"), "");
        assert_eq!(kill("5.14.0", &v2).status, Status::Ok);
        assert_eq!(kill("5.13.0", &v2).status, Status::Warn);
        assert_eq!(kill("6.1.0", &v1).status, Status::Warn);
    }

    #[test]
    fn taking_memory_back_needs_both_the_kernel_and_the_layout_and_is_no_fault_where_it_is_not() {
        for (release, unified, says) in [
            ("6.1.0", true, "can be taken"),
            ("5.18.0", true, "5.19"),
            ("6.18.0", false, "unified"),
        ] {
            let check = reclaim(release, unified);
            assert_eq!(check.status, Status::Ok);
            assert!(check.found.contains(says), "{check}");
        }
    }

    #[test]
    fn swap_matters_only_where_it_is_on_and_not_counted() {
        let heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        let on = format!("{heading}/dev/vda5 partition 999420 0 -2\n");
        assert_eq!(swap(heading, false).status, Status::Ok);
        assert_eq!(swap(&on, true).status, Status::Ok);
        assert_eq!(swap(&on, false).status, Status::Warn);
    }
}
