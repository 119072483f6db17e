//! Which cgroup layout the host has, and what that allows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Check;
use super::remedies::NEWER_KERNEL;
use crate::mountinfo::{Mount, mounts};

/// The controllers that the limits of a function need, with the limit that is lost without each.
const NEEDED: [(&str, &str); 3] = [("memory", "memory"), ("cpu", "CPU"), ("pids", "process")];

/// The mounted cgroup hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// v1 controllers and where each is mounted.
    v1: Vec<(String, PathBuf)>,
    /// The v2 tree and its controllers.
    v2: Option<(PathBuf, Vec<String>)>,
    /// The read-only mounts, with the command that makes each writable.
    read_only: BTreeMap<PathBuf, String>,
    /// The directory of the v1 mounts, and whether it is read-only.
    parent: Option<(PathBuf, bool)>,
}

/// Returns the command that makes the mount writable, if it is read-only.
fn make_writable(mount: &Mount<'_>) -> Option<String> {
    let is = |options: &str| options.split(',').any(|option| option == "ro");
    let how = match (is(mount.flags), is(mount.options)) {
        (false, false) => return None,
        (true, false) => "remount,bind,rw",
        (_, true) => "remount,rw",
    };
    Some(format!("mount -o {how} {}", mount.point))
}

/// Returns the read-only cgroup mounts that are not also mounted writable elsewhere, with the command that makes each
/// writable.
fn read_only(mountinfo: &str) -> BTreeMap<PathBuf, String> {
    let cgroups = || mounts(mountinfo).filter(|mount| mount.kind.starts_with("cgroup"));
    // A later mount covers an earlier one on the same directory.
    let visible: BTreeMap<_, _> = cgroups().map(|mount| (mount.point.clone(), mount)).collect();
    let writable = |device: &str| {
        visible
            .values()
            .any(|mount| mount.device == device && make_writable(mount).is_none())
    };
    visible
        .iter()
        .filter(|(_, mount)| !writable(mount.device))
        .filter_map(|(point, mount)| Some((point.into(), make_writable(mount)?)))
        .collect()
}

/// Returns the mount point of the v2 tree.
pub(super) fn v2_root(mountinfo: &str) -> Option<PathBuf> {
    let mount = mounts(mountinfo).find(|mount| mount.kind == "cgroup2")?;
    Some(mount.point.into())
}

impl Layout {
    /// Reads the layout from the mounts and the v2 tree's `cgroup.controllers`.
    pub(super) fn of(mountinfo: &str, v2_controllers: &str) -> Self {
        const OPTIONS: [&str; 6] = [
            "rw",
            "ro",
            "xattr",
            "noprefix",
            "clone_children",
            "cpuset_v2_mode",
        ];
        let v1: Vec<(String, PathBuf)> = mounts(mountinfo)
            .filter(|mount| mount.kind == "cgroup")
            .flat_map(|mount| {
                let named: Vec<_> = mount
                    .options
                    .split(',')
                    .filter(|option| !OPTIONS.contains(option) && !option.contains('='))
                    .map(|controller| (controller.to_owned(), PathBuf::from(&mount.point)))
                    .collect();
                named
            })
            .collect();
        let v2 = v2_root(mountinfo).map(|root| {
            let controllers = v2_controllers.split_whitespace().map(str::to_owned).collect();
            (root, controllers)
        });
        let parent = v1.first().and_then(|(_, at)| at.parent()).map(|parent| {
            let mut mount = mounts(mountinfo).filter(|mount| Path::new(&mount.point) == parent);
            let closed = mount
                .next_back()
                .is_some_and(|mount| make_writable(&mount).is_some());
            (parent.to_owned(), closed)
        });
        Self {
            v1,
            v2,
            read_only: read_only(mountinfo),
            parent,
        }
    }

    /// Returns the command that mounts the v2 tree on a host without one.
    pub(super) fn mount_v2(&self) -> String {
        self.mount("unified", "cgroup2")
    }

    /// Returns the command that mounts a hierarchy beside the v1 controllers; without any, the v2 tree.
    fn mount(&self, name: &str, how: &str) -> String {
        let Some((parent, closed)) = &self.parent else {
            return "mount -t cgroup2 none /sys/fs/cgroup".to_owned();
        };
        let parent = parent.display();
        let open = if *closed {
            format!("mount -o remount,rw {parent} && ")
        } else {
            String::new()
        };
        format!("{open}mkdir -p {parent}/{name} && mount -t {how} none {parent}/{name}")
    }

    /// Whether there are v1 controllers beside a v2 tree.
    pub(super) fn is_hybrid(&self) -> bool {
        self.v2.is_some() && !self.v1.is_empty()
    }

    /// Whether memory is controlled in the v2 tree.
    pub(super) fn memory_is_unified(&self) -> bool {
        let in_v1 = self.v1.iter().any(|(name, _)| name == "memory");
        !in_v1 && self.has("memory")
    }

    pub(super) fn has_v2(&self) -> bool {
        self.v2.is_some()
    }

    /// Returns the directory where the memory controller is mounted.
    pub(super) fn memory_root(&self) -> Option<PathBuf> {
        let v1 = self.v1.iter().find(|(name, _)| name == "memory");
        v1.map(|(_, at)| at.clone())
            .or_else(|| self.v2.as_ref().map(|(root, _)| root.clone()))
    }

    fn has(&self, controller: &str) -> bool {
        self.v1.iter().any(|(name, _)| name == controller)
            || self
                .v2
                .as_ref()
                .is_some_and(|(_, all)| all.iter().any(|name| name == controller))
    }

    /// Reports the layout and its disadvantages.
    pub(super) fn check(&self) -> Check {
        const NAME: &str = "cgroups";
        if !self.read_only.is_empty() {
            let points: Vec<_> = self.read_only.keys().map(|at| at.display().to_string()).collect();
            let mends: Vec<_> = self.read_only.values().map(String::as_str).collect();
            let found = format!("read-only, so no container can be made: {}", points.join(", "));
            return Check::bad(NAME, found, mends.join(" && "));
        }
        match &self.v2 {
            Some((root, _)) if self.v1.is_empty() => {
                Check::ok(NAME, format!("unified v2 at {}", root.display()))
            }
            Some((root, _)) => Check::ok(
                NAME,
                format!(
                    "hybrid: v1 controllers enforce the limits, the v2 tree at {} freezes and kills",
                    root.display()
                ),
            ),
            None if !self.v1.is_empty() => Check::warn(
                NAME,
                "v1 only: a freeze is slower, and a frozen function must be thawed to be killed",
                self.mount_v2(),
            ),
            None => Check::bad(
                NAME,
                "none are mounted, so nothing can be limited",
                self.mount_v2(),
            ),
        }
    }

    /// Returns the remedy for a missing controller. `table` is `/proc/cgroups`, where the kernel lists its controllers.
    fn mend(&self, controller: &str, table: &str) -> String {
        let row = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| row.first() == Some(&controller));
        let unified = self.v2.is_some() && self.v1.is_empty();
        // The columns: the name, the number of the v1 hierarchy (0 is the v2 tree), the number of cgroups, and whether
        // it is on.
        match row.as_deref() {
            Some([_, _, _, "0", ..]) => {
                format!("boot with cgroup_enable={controller}, and without cgroup_disable={controller}")
            }
            Some([_, "0", ..]) if unified => {
                "start it where the whole tree is seen: docker run --privileged --cgroupns host".to_owned()
            }
            Some(_) if unified => {
                "boot with systemd.unified_cgroup_hierarchy=1, because a v1 hierarchy has it".to_owned()
            }
            Some(_) => self.mount(controller, &format!("cgroup -o {controller}")),
            None => NEWER_KERNEL.to_owned(),
        }
    }

    /// Reports the controllers, and the limits that cannot be enforced.
    pub(super) fn controllers(&self, table: &str) -> Check {
        const NAME: &str = "controllers";
        let lost: Vec<_> = NEEDED
            .iter()
            .filter(|(controller, _)| !self.has(controller))
            .collect();
        if !lost.is_empty() {
            let mut mends: Vec<_> = lost.iter().map(|(name, _)| self.mend(name, table)).collect();
            mends.dedup();
            let limits: Vec<_> = lost.iter().map(|(_, limit)| *limit).collect();
            let found = format!("{} limits cannot be enforced", limits.join(", "));
            return Check::warn(NAME, found, mends.join("; "));
        }
        let v1 = self.v1.iter().map(|(name, _)| name.as_str());
        let v2 = self.v2.iter().flat_map(|(_, all)| all).map(String::as_str);
        let side = |names: Vec<&str>, version| match names.as_slice() {
            [] => None,
            names => Some(format!("{version}: {}", names.join(" "))),
        };
        let sides = [side(v1.collect(), "v1"), side(v2.collect(), "v2")];
        Check::ok(NAME, sides.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }

    /// Reports how functions are frozen on this host.
    pub(super) fn freezer(&self) -> Check {
        const NAME: &str = "freezer";
        if let Some((root, _)) = &self.v2 {
            return Check::ok(NAME, format!("cgroup.freeze in {}", root.display()));
        }
        match self.v1.iter().find(|(name, _)| name == "freezer") {
            Some((_, at)) => Check::ok(NAME, format!("v1 freezer at {}", at.display())),
            None => Check::warn(
                NAME,
                "there is none, so functions cannot be frozen",
                self.mount_v2(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    const UNIFIED: &str = include_str!("../../fixtures/doctor/unified.mountinfo");
    const HYBRID: &str = include_str!("../../fixtures/doctor/hybrid.mountinfo");
    const V1: &str = include_str!("../../fixtures/doctor/v1.mountinfo");
    const TABLE: &str =
        "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t14\t1\nmemory\t0\t82\t0\npids\t0\t13\t1\n";

    #[test]
    fn the_three_layouts_are_told_apart() {
        let unified = Layout::of(UNIFIED, "cpuset cpu io memory hugetlb pids");
        assert_eq!(unified.check().found, "unified v2 at /sys/fs/cgroup");
        assert!(!unified.is_hybrid());
        let hybrid = Layout::of(HYBRID, "hugetlb");
        assert!(hybrid.is_hybrid());
        assert!(
            hybrid.check().found.contains("/sys/fs/cgroup/unified"),
            "{hybrid:?}"
        );
        let v1 = Layout::of(V1, "");
        assert_eq!(v1.check().status, Status::Warn);
        assert_eq!(Layout::of("", "").check().status, Status::Bad);
    }

    #[test]
    fn a_controller_counts_in_whichever_hierarchy_it_is() {
        assert_eq!(
            Layout::of(HYBRID, "hugetlb").controllers(TABLE).status,
            Status::Ok
        );
        let check = Layout::of(V1, "").controllers(TABLE);
        assert_eq!(
            (check.status, check.found.as_str()),
            (Status::Warn, "process limits cannot be enforced")
        );
        let check = Layout::of(UNIFIED, "cpu").controllers(TABLE);
        assert_eq!(check.found, "memory, process limits cannot be enforced");
    }

    #[test]
    fn a_missing_controller_is_mended_by_what_the_kernel_says_of_it() {
        let mend = |mounts, v2| Layout::of(mounts, v2).controllers(TABLE).mend.unwrap();
        assert_eq!(
            mend(V1, ""),
            "mount -o remount,rw /sys/fs/cgroup && mkdir -p /sys/fs/cgroup/pids && mount -t cgroup -o pids none \
             /sys/fs/cgroup/pids"
        );
        assert!(mend(UNIFIED, "cpu pids").contains("cgroup_enable=memory"));
        assert!(mend(UNIFIED, "memory cpu").contains("--cgroupns host"));
        assert!(mend(UNIFIED, "memory pids").contains("unified_cgroup_hierarchy=1"));
        assert!(
            Layout::of(UNIFIED, "")
                .controllers("")
                .mend
                .unwrap()
                .contains("linux-image")
        );
        let none = Layout::of("", "");
        assert_eq!(none.mend("cpu", TABLE), "mount -t cgroup2 none /sys/fs/cgroup");
    }

    #[test]
    fn a_hierarchy_that_cannot_be_written_is_bad_and_made_writable_the_way_it_was_closed() {
        assert_eq!(Layout::of(HYBRID, "").check().status, Status::Ok);
        let closed = |from: &str, to: &str| Layout::of(&HYBRID.replace(from, to), "").check();
        let check = closed("/sys/fs/cgroup/memory rw,", "/sys/fs/cgroup/memory ro,");
        assert_eq!(
            (check.status, check.mend.as_deref()),
            (
                Status::Bad,
                Some("mount -o remount,bind,rw /sys/fs/cgroup/memory")
            )
        );
        let check = closed("cgroup cgroup rw,pids", "cgroup cgroup ro,pids");
        assert_eq!(
            check.mend.as_deref(),
            Some("mount -o remount,rw /sys/fs/cgroup/pids")
        );
        let check = closed(" - cgroup2 cgroup2 rw", " - cgroup2 cgroup2 ro");
        assert!(check.found.ends_with("/sys/fs/cgroup/unified"), "{check}");
    }

    #[test]
    fn a_later_mount_counts_and_one_that_can_be_written_elsewhere_will_do() {
        let line = "35 31 0:32 / /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n";
        let covered = Layout::of(&format!("{HYBRID}{line}"), "");
        assert_eq!(covered.check().status, Status::Bad);
        let elsewhere = line.replace("/sys/fs/cgroup/memory", "/mnt/memory");
        let beside = Layout::of(&format!("{HYBRID}{elsewhere}"), "");
        assert_eq!(beside.check().status, Status::Ok);
    }

    #[test]
    fn a_named_hierarchy_and_mount_options_are_no_controllers() {
        let names: Vec<_> = Layout::of(V1, "").v1.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["freezer", "cpu", "cpuacct", "memory", "devices"]);
    }

    #[test]
    fn freezing_uses_the_v2_tree_wherever_there_is_one() {
        let found = |mounts| Layout::of(mounts, "").freezer().found;
        assert_eq!(found(UNIFIED), "cgroup.freeze in /sys/fs/cgroup");
        assert_eq!(found(HYBRID), "cgroup.freeze in /sys/fs/cgroup/unified");
        assert_eq!(found(V1), "v1 freezer at /sys/fs/cgroup/freezer");
        assert_eq!(Layout::of("", "").freezer().status, Status::Warn);
    }
}
