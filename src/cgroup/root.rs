//! The cgroup hierarchies that are mounted on this host, determined once at start.
//!
//! Creates nothing and changes nothing. Tests pass a directory or texts in place of the host's.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::layout::{Controllers, Layout, Version};
use super::mounts::{Hierarchy, Mounts};
use super::paths::{Membership, Paths};
use super::places::CgroupDirs;

/// The mounted hierarchies, and this process's own cgroup in each.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    mounts: Mounts,
    own: Membership,
}

impl Root {
    /// Reads this host's mount table and this process's own cgroups.
    pub(crate) fn probe() -> Result<Self, Error> {
        let read = |file: &str| {
            fs::read_to_string(file).map_err(|source| Error::Io {
                op: "read",
                path: file.into(),
                source,
            })
        };
        Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)
    }

    /// A root from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`. Pure.
    pub(super) fn parse(mountinfo: &str, own: &str) -> Result<Self, Error> {
        Self::new(Mounts::parse(mountinfo), Membership::parse(own))
    }

    /// A root whose hierarchies are the directories in `dir`, laid out as in `/sys/fs/cgroup`.
    #[cfg(test)]
    pub(crate) fn at(dir: &Path) -> Result<Self, Error> {
        Self::new(Mounts::at(dir), Membership::default())
    }

    fn new(mounts: Mounts, own: Membership) -> Result<Self, Error> {
        if mounts.v2.is_none() && mounts.v1.is_empty() {
            return Err(Error::NoCgroups);
        }
        Ok(Self { mounts, own })
    }

    /// Which of the three layouts this is.
    pub(crate) fn layout(&self) -> Layout {
        match (&self.mounts.v2, self.mounts.v1.is_empty()) {
            (Some(_), true) => Layout::Unified,
            (Some(_), false) => Layout::Hybrid,
            (None, _) => Layout::V1,
        }
    }

    /// The mount point that shows the unified tree from its top (in a cgroup namespace: the namespace's top), if that
    /// tree is the only one.
    pub(crate) fn unified_top(&self) -> Option<&Path> {
        let v2 = self.mounts.v2.as_ref().filter(|v2| v2.root == "/");
        v2.filter(|_| self.layout() == Layout::Unified)
            .map(|v2| v2.point.as_path())
    }

    /// The version of the interface that a runtime writes limits to: on a hybrid host that is v1.
    pub(crate) fn cgroup_version(&self) -> Version {
        match self.layout() {
            Layout::Unified => Version::V2,
            Layout::Hybrid | Layout::V1 => Version::V1,
        }
    }

    /// What this host can enforce, and where. Reads the v2 tree's list of controllers and the kernel's release. A
    /// controller with a v1 mount is not in the v2 tree.
    pub(crate) fn controllers(&self) -> Controllers {
        let v2 = self.mounts.v2.as_ref();
        let listed = v2.and_then(|v2| fs::read_to_string(v2.point.join("cgroup.controllers")).ok());
        let in_v2 = |name: &str| {
            let listed = listed.as_deref().unwrap_or_default();
            listed.split_ascii_whitespace().any(|n| n == name)
        };
        let find = |v1: &str, v2: &str| {
            let mounted = self.mounts.v1.contains_key(v1).then_some(Version::V1);
            mounted.or_else(|| in_v2(v2).then_some(Version::V2))
        };
        // A kernel without CFS bandwidth control has the cpu controller, but no quota.
        let quota = |version: &Version| {
            let v1 = self
                .mounts
                .v1
                .get("cpu")
                .map(|cpu| cpu.point.join("cpu.cfs_quota_us"));
            *version == Version::V2 || v1.is_some_and(|file| file.exists())
        };
        let freeze = v2.is_some_and(|v2| has(v2, "cgroup.freeze", (5, 2)));
        Controllers {
            cpu: find("cpu", "cpu").filter(quota),
            cpuset: find("cpuset", "cpuset"),
            memory: find("memory", "memory"),
            pids: find("pids", "pids"),
            io: find("blkio", "io"),
            freezer: freeze.then_some(Version::V2).or_else(|| find("freezer", "")),
            kill: v2.is_some_and(|v2| has(v2, "cgroup.kill", (5, 14))),
            reclaim: find("memory", "memory") == Some(Version::V2)
                && v2.is_some_and(|v2| super::reclaim::is_offered(&v2.point, running_kernel())),
        }
    }

    /// The directories of the container that process `pid` is in.
    ///
    /// # Errors
    /// [`Error::NoProcess`] if the process ended; [`Error::NotContained`] if all its cgroups also contain this process
    /// or the whole machine.
    pub(crate) fn of_pid(&self, pid: u32) -> Result<Paths, Error> {
        let file = format!("/proc/{pid}/cgroup");
        match fs::read_to_string(&file) {
            Ok(text) => self
                .of_membership(&Membership::parse(&text))
                .ok_or(Error::NotContained { pid }),
            Err(error) if super::error::is_gone(&error) => Err(Error::NoProcess { pid }),
            Err(source) => Err(Error::Io {
                op: "read",
                path: file.into(),
                source,
            }),
        }
    }

    /// The directories of a container whose cgroup is known, with or without a process in it. The cgroup (`/fnctr/ID`)
    /// counts from the top of each mount, as a runtime reads an absolute `cgroupsPath`. The directories need not exist.
    ///
    /// # Errors
    /// [`Error::BadPath`] for a path that is not below the root, or that contains this process.
    pub(crate) fn of_path(&self, cgroup: &str) -> Result<Paths, Error> {
        self.check(cgroup)?;
        Ok(Paths::collect(&self.mounts, |hierarchy, _| {
            from_top(&hierarchy.point, cgroup)
        }))
    }

    /// The directories of a cgroup in every hierarchy, as a runtime creates them, including hierarchies that this
    /// module does not read.
    ///
    /// # Errors
    /// As [`Root::of_path`].
    pub(crate) fn places(&self, cgroup: &str) -> Result<CgroupDirs, Error> {
        self.check(cgroup)?;
        let every = self.mounts.every.values();
        let dirs = every.filter_map(|hierarchy| from_top(&hierarchy.point, cgroup));
        Ok(CgroupDirs::new(dirs.collect()))
    }

    /// Fails for a path that is not below the root, or that contains this process.
    fn check(&self, cgroup: &str) -> Result<(), Error> {
        let refuse = |why| {
            let path = cgroup.to_owned();
            Err(Error::BadPath { path, why })
        };
        if !cgroup.starts_with('/') {
            return refuse("it does not start at the root");
        }
        if from_top(Path::new("/"), cgroup).is_none() {
            return refuse("it is the root itself or leaves it");
        }
        if self.own.touches(&self.mounts, cgroup) {
            return refuse("this process is in it");
        }
        Ok(())
    }

    /// The directories of a process, from its `/proc/PID/cgroup`, without those shared with this process or the whole
    /// machine. `None` if none is left. Pure.
    pub(super) fn of_membership(&self, of: &Membership) -> Option<Paths> {
        let paths = Paths::collect(&self.mounts, |hierarchy, controller| {
            let cgroup = of.path(controller)?;
            let own = self.own.path(controller);
            let shared = own.is_some_and(|own| Path::new(own).starts_with(cgroup));
            if shared { None } else { hierarchy.dir(cgroup) }
        });
        let any = paths.dirs().next().is_some();
        any.then_some(paths)
    }
}

/// The directory of a cgroup, counted from the top of a mount, whichever part of the hierarchy the mount shows.
fn from_top(point: &Path, cgroup: &str) -> Option<PathBuf> {
    let root = "/".to_owned();
    let point = point.to_owned();
    Hierarchy { point, root }.dir(cgroup)
}

/// Whether cgroups of this tree have a core file. The root cgroup never has it, so a child is checked (or the mount's
/// top, which is not the root cgroup inside a container). Without any child, the kernel's release decides.
fn has(tree: &Hierarchy, file: &str, since: (u32, u32)) -> bool {
    if tree.point.join(file).exists() {
        return true;
    }
    let child = fs::read_dir(&tree.point)
        .ok()
        .and_then(|entries| entries.flatten().find(|entry| entry.path().is_dir()));
    match child {
        Some(child) => child.path().join(file).exists(),
        None => running_kernel().is_some_and(|kernel| kernel >= since),
    }
}

/// The release of the running kernel.
fn running_kernel() -> Option<(u32, u32)> {
    kernel(&fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
}

/// Major and minor number of a kernel release such as `6.18.44-generic`.
fn kernel(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HYBRID, NESTED, UNIFIED, V1};
    use super::*;

    #[test]
    fn the_three_layouts_are_told_apart() {
        for (text, layout, version) in [
            (UNIFIED, Layout::Unified, Version::V2),
            (HYBRID, Layout::Hybrid, Version::V1),
            (V1, Layout::V1, Version::V1),
            (NESTED, Layout::Unified, Version::V2),
        ] {
            let root = Root::parse(text, "").unwrap();
            assert_eq!(
                (root.layout(), root.cgroup_version()),
                (layout, version),
                "{text}"
            );
        }
        assert!(matches!(
            Root::parse("22 27 0:21 / /proc rw - proc proc rw", ""),
            Err(Error::NoCgroups)
        ));
    }

    #[test]
    fn only_a_unified_tree_that_is_seen_from_its_top_has_one() {
        let top = |mounts| {
            let root = Root::parse(mounts, "").unwrap();
            root.unified_top().map(Path::to_owned)
        };
        assert_eq!(top(UNIFIED), Some("/sys/fs/cgroup".into()));
        for other in [HYBRID, V1, NESTED] {
            assert_eq!(top(other), None, "{other}");
        }
    }

    #[test]
    fn a_kernel_release_is_compared_as_numbers() {
        assert_eq!(kernel("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(kernel("5.2-rc1"), Some((5, 2)));
        assert!(kernel("5.10.0").unwrap() > (5, 2));
        assert_eq!(kernel("weird"), None);
    }

    #[test]
    fn controllers_are_reported_where_they_can_be_enforced() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["cpu", "memory", "pids", "freezer", "unified/child"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("unified/cgroup.controllers"), "hugetlb io\n").unwrap();
        let root = Root::at(dir.path()).unwrap();
        assert_eq!(root.layout(), Layout::Hybrid);
        let without_quota_and_freeze = Controllers {
            memory: Some(Version::V1),
            pids: Some(Version::V1),
            io: Some(Version::V2),
            freezer: Some(Version::V1),
            ..Controllers::default()
        };
        assert_eq!(root.controllers(), without_quota_and_freeze);
        fs::write(dir.path().join("cpu/cpu.cfs_quota_us"), "-1").unwrap();
        fs::write(dir.path().join("unified/child/cgroup.freeze"), "0").unwrap();
        fs::write(dir.path().join("unified/child/cgroup.kill"), "").unwrap();
        let all = Controllers {
            cpu: Some(Version::V1),
            freezer: Some(Version::V2),
            kill: true,
            ..without_quota_and_freeze
        };
        assert_eq!(root.controllers(), all);
    }

    #[test]
    fn this_host_is_probed() {
        let root = Root::probe().unwrap();
        let controllers = root.controllers();
        eprintln!("{:?}: {controllers:?}", root.layout());
        let v1 = cgroups_rs::fs::hierarchies::V1::new();
        for (name, controller) in [
            ("memory", cgroups_rs::fs::Controllers::Mem),
            ("pids", cgroups_rs::fs::Controllers::Pids),
            ("freezer", cgroups_rs::fs::Controllers::Freezer),
        ] {
            let theirs = v1.get_mount_point(controller).map(|(point, _)| point);
            let ours = root.mounts.v1.get(name).map(|hierarchy| hierarchy.point.clone());
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(
            root.layout() == Layout::Unified,
            cgroups_rs::fs::hierarchies::is_cgroup2_unified_mode()
        );
    }

    #[test]
    fn a_path_that_is_no_containers_is_refused() {
        let root = Root::parse(HYBRID, "4:memory:/agent/me\n0::/\n").unwrap();
        for (path, why) in [
            ("fnctr/a", "it does not start at the root"),
            ("/", "it is the root itself or leaves it"),
            ("/../a", "it is the root itself or leaves it"),
            ("/a/../..", "it is the root itself or leaves it"),
            ("/agent/me", "this process is in it"),
            ("/agent", "this process is in it"),
        ] {
            let Err(Error::BadPath { why: said, .. }) = root.of_path(path) else {
                panic!("{path} was accepted");
            };
            assert_eq!(said, why, "{path}");
        }
        let paths = root.of_path("/agent/me-too").unwrap();
        assert_eq!(
            paths.v2.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified/agent/me-too"))
        );
        assert_eq!(
            paths.memory.as_deref(),
            Some(Path::new("/sys/fs/cgroup/memory/agent/me-too"))
        );
    }
}
