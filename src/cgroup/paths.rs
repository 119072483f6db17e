//! The directories of one container, one per hierarchy, from `/proc/PID/cgroup`. Pure, but for [`Paths::exist`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::layout::Version;
use super::mounts::{Hierarchy, Mounts};
use super::places::CgroupDirs;

/// The key of the v2 tree among the controllers' names.
const UNIFIED: &str = "";

/// The content of a `/proc/PID/cgroup`: a cgroup path per hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Membership(BTreeMap<String, String>);

impl Membership {
    /// Parses lines such as `4:cpu,cpuacct:/fnctr/a` and `0::/fnctr/a`. Leaves out a cgroup that was removed while an
    /// unreaped process still belongs to it.
    pub(super) fn parse(text: &str) -> Self {
        let mut paths = BTreeMap::new();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            if path.ends_with(" (deleted)") {
                continue;
            }
            for controller in controllers.split(',') {
                paths.insert(controller.to_owned(), path.to_owned());
            }
        }
        Self(paths)
    }

    /// The path in one controller's hierarchy, or in the v2 tree for `""`.
    pub(super) fn path(&self, controller: &str) -> Option<&str> {
        self.0.get(controller).map(String::as_str)
    }

    /// Whether the process is in `cgroup` or below it in any hierarchy; `cgroup` counts from the top of the mount.
    pub(super) fn touches(&self, mounts: &Mounts, cgroup: &str) -> bool {
        let v2 = mounts.v2.iter().map(|hierarchy| (UNIFIED, hierarchy));
        let v1 = mounts.v1.iter().map(|(name, hierarchy)| (*name, hierarchy));
        v2.chain(v1).any(|(controller, hierarchy)| {
            let own = self.path(controller).and_then(|own| hierarchy.dir(own));
            let named = cgroup.trim_start_matches('/');
            own.is_some_and(|own| own.starts_with(hierarchy.point.join(named)))
        })
    }
}

/// The directories of one container. The fields other than `v2` are of v1 hierarchies; a runtime need not have used all
/// of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    /// In the v2 tree.
    pub(crate) v2: Option<PathBuf>,
    /// Of the memory controller.
    pub(crate) memory: Option<PathBuf>,
    /// Of the CPU controller.
    pub(crate) cpu: Option<PathBuf>,
    /// Of CPU accounting.
    pub(crate) cpuacct: Option<PathBuf>,
    /// Of the process-number controller.
    pub(crate) pids: Option<PathBuf>,
    /// Of the disk controller.
    pub(crate) blkio: Option<PathBuf>,
    /// Of the freezer.
    pub(crate) freezer: Option<PathBuf>,
}

impl Paths {
    /// Calls `dir` for the directory in each mounted hierarchy, by controller; `""` is the v2 tree.
    pub(super) fn collect(mounts: &Mounts, dir: impl Fn(&Hierarchy, &str) -> Option<PathBuf>) -> Self {
        let v1 = |controller: &str| dir(mounts.v1.get(controller)?, controller);
        Self {
            v2: mounts.v2.as_ref().and_then(|v2| dir(v2, UNIFIED)),
            memory: v1("memory"),
            cpu: v1("cpu"),
            cpuacct: v1("cpuacct"),
            pids: v1("pids"),
            blkio: v1("blkio"),
            freezer: v1("freezer"),
        }
    }

    /// All directories, the v2 tree's first.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = &Path> {
        let Self {
            v2,
            memory,
            cpu,
            cpuacct,
            pids,
            blkio,
            freezer,
        } = self;
        let all = [v2, freezer, memory, cpu, cpuacct, pids, blkio];
        all.into_iter().filter_map(Option::as_deref)
    }

    /// The directories that certainly are the container's own: those whose path ends in `name`, or whose parent's does,
    /// because crun creates one more cgroup in systemd's scope for all processes and limits of the container. A process
    /// id may be used again, and a runtime may leave out a hierarchy. Then a directory is another program's cgroup,
    /// which must not be frozen or killed.
    pub(crate) fn named(self, name: &Path) -> Option<Self> {
        let own = |dir: Option<PathBuf>| {
            let dir = dir?;
            let one_below = || dir.parent().is_some_and(|parent| parent.ends_with(name));
            (dir.ends_with(name) || one_below()).then_some(dir)
        };
        let named = Self {
            v2: own(self.v2),
            memory: own(self.memory),
            cpu: own(self.cpu),
            cpuacct: own(self.cpuacct),
            pids: own(self.pids),
            blkio: own(self.blkio),
            freezer: own(self.freezer),
        };
        (named != Self::default()).then_some(named)
    }

    /// The directories without their controllers, to find the processes, and to kill them without `cgroup.kill`.
    pub(crate) fn places(&self) -> CgroupDirs {
        CgroupDirs::new(self.dirs().map(Path::to_owned).collect())
    }

    /// Whether a cgroup of the container exists in any hierarchy.
    pub(crate) fn exist(&self) -> bool {
        self.dirs().any(Path::is_dir)
    }

    /// The directory of a controller's files: its own v1 hierarchy (one of the fields), else the v2 tree.
    pub(super) fn controller<'p>(&'p self, v1: &'p Option<PathBuf>) -> Option<(Version, &'p Path)> {
        let v1 = v1.as_deref().map(|dir| (Version::V1, dir));
        v1.or_else(|| self.v2.as_deref().map(|dir| (Version::V2, dir)))
    }

    /// The directory that names the container as a whole in errors.
    pub(super) fn name(&self) -> PathBuf {
        self.dirs().next().map(Path::to_owned).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::Root;
    use super::super::testing::{HYBRID, NESTED, UNIFIED, V1};
    use super::*;

    fn paths(mountinfo: &str, own: &str, of: &str) -> Option<Paths> {
        Root::parse(mountinfo, own)
            .unwrap()
            .of_membership(&Membership::parse(of))
    }

    fn path(dir: &str) -> Option<PathBuf> {
        Some(dir.into())
    }

    #[test]
    fn on_a_unified_host_a_container_is_one_directory() {
        let of = "0::/system.slice/fnctr.slice/fnctr-a.scope\n";
        let found = paths(UNIFIED, "0::/system.slice/fnctr.service\n", of).unwrap();
        let expected = Paths {
            v2: path("/sys/fs/cgroup/system.slice/fnctr.slice/fnctr-a.scope"),
            ..Paths::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn only_cgroups_that_bear_the_containers_name_are_its_own() {
        let dirs = |v2: &str, memory: &str| Paths {
            v2: path(v2),
            memory: path(memory),
            ..Paths::default()
        };
        let name = Path::new("fnctr/a");
        let own = dirs(
            "/sys/fs/cgroup/unified/x/fnctr/a",
            "/sys/fs/cgroup/memory/x/fnctr/a",
        );
        assert_eq!(own.clone().named(name), Some(own.clone()));
        for other in ["b", "fnctr/b", "other/a", "r/a"] {
            assert_eq!(own.clone().named(Path::new(other)), None, "{other}");
        }
        let half = dirs(
            "/sys/fs/cgroup/unified/system.slice/containerd.service",
            "/sys/fs/cgroup/memory/fnctr/a",
        );
        let memory = Paths {
            memory: path("/sys/fs/cgroup/memory/fnctr/a"),
            ..Paths::default()
        };
        assert_eq!(half.named(name), Some(memory));
        let deep = |dir: &str| Paths {
            v2: path(dir),
            ..Paths::default()
        };
        let scope = Path::new("fnctr-ns-a.scope");
        let below = deep("/sys/fs/cgroup/system.slice/fnctr-ns-a.scope/container");
        assert_eq!(below.clone().named(scope), Some(below));
        assert_eq!(
            deep("/sys/fs/cgroup/system.slice/fnctr-ns-b-a.scope").named(scope),
            None
        );
        assert_eq!(deep("/sys/fs/cgroup/fnctr/a/b/c").named(name), None);
    }

    #[test]
    fn on_a_hybrid_host_each_controller_has_its_own_directory() {
        let of = "9:name=systemd:/fnctr/a\n8:pids:/fnctr/a\n7:blkio:/fnctr/a\n6:freezer:/fnctr/a\n\
                  5:devices:/fnctr/a\n4:memory:/fnctr/a\n3:cpuset:/fnctr/a\n2:cpuacct:/fnctr/a\n1:cpu:/fnctr/a\n\
                  0::/fnctr/a\n";
        let found = paths(HYBRID, "4:memory:/process/x\n1:cpu:/\n0::/\n", of).unwrap();
        let expected = Paths {
            v2: path("/sys/fs/cgroup/unified/fnctr/a"),
            memory: path("/sys/fs/cgroup/memory/fnctr/a"),
            cpu: path("/sys/fs/cgroup/cpu/fnctr/a"),
            cpuacct: path("/sys/fs/cgroup/cpuacct/fnctr/a"),
            pids: path("/sys/fs/cgroup/pids/fnctr/a"),
            blkio: path("/sys/fs/cgroup/blkio/fnctr/a"),
            freezer: path("/sys/fs/cgroup/freezer/fnctr/a"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn on_a_v1_host_controllers_share_mounts() {
        let of = "4:memory:/fnctr/a\n3:cpu,cpuacct:/fnctr/a\n2:freezer:/fnctr/a\n";
        let found = paths(V1, "", of).unwrap();
        let expected = Paths {
            memory: path("/sys/fs/cgroup/memory/fnctr/a"),
            cpu: path("/sys/fs/cgroup/cpu,cpuacct/fnctr/a"),
            cpuacct: path("/sys/fs/cgroup/cpu,cpuacct/fnctr/a"),
            freezer: path("/sys/fs/cgroup/freezer/fnctr/a"),
            ..Paths::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn inside_a_container_paths_are_seen_through_its_own_mount() {
        let found = paths(NESTED, "0::/docker/0123/init\n", "0::/docker/0123/fnctr/a\n").unwrap();
        assert_eq!(found.v2, path("/sys/fs/cgroup/fnctr/a"));
        assert_eq!(paths(NESTED, "0::/docker/0123/init\n", "0::/docker/4567\n"), None);
    }

    #[test]
    fn inside_a_cgroup_namespace_a_cgroup_outside_is_out_of_reach() {
        // In a cgroup namespace the mount's root is `/`, and so is this process's own cgroup.
        assert_eq!(paths(UNIFIED, "0::/\n", "0::/../sibling\n"), None);
        let found = paths(UNIFIED, "0::/\n", "0::/fnctr/a\n").unwrap();
        assert_eq!(found.v2, path("/sys/fs/cgroup/fnctr/a"));
        let host_mount = "41 31 0:38 /../.. /host/cgroup rw - cgroup2 cgroup2 rw\n";
        let found = paths(host_mount, "0::/\n", "0::/../../kubepods/b\n").unwrap();
        assert_eq!(found.v2, path("/host/cgroup/kubepods/b"));
    }

    #[test]
    fn inside_a_cgroup_namespace_nothing_that_we_live_in_is_a_containers() {
        // The host's tree, seen from a namespace two levels down: cgroups above the namespace's root have no name, only
        // dots.
        let outside = "41 31 0:38 /../.. /host/cgroup rw - cgroup2 cgroup2 rw\n";
        for (mounts, own, of) in [
            // All processes of the container are in the namespace's root, or were moved to a leaf of it.
            (UNIFIED, "0::/\n", "0::/\n"),
            (UNIFIED, "0::/init\n", "0::/\n"),
            (UNIFIED, "0::/init\n", "0::/init\n"),
            // Processes above this namespace, up to the machine's root.
            (outside, "0::/\n", "0::/..\n"),
            (outside, "0::/\n", "0::/../..\n"),
            (UNIFIED, "0::/\n", "0::/..\n"),
            // This process was moved out of its namespace's root after it had created the namespace.
            (outside, "0::/../me\n", "0::/../me\n"),
            (outside, "0::/../me\n", "0::/..\n"),
            (HYBRID, "4:memory:/\n0::/\n", "4:memory:/\n0::/\n"),
            (HYBRID, "4:memory:/\n0::/\n", "4:memory:/..\n0::/../..\n"),
        ] {
            assert_eq!(paths(mounts, own, of), None, "{of:?} seen from {own:?}");
        }
        let found = paths(UNIFIED, "0::/init\n", "0::/fnctr/a\n").unwrap();
        assert_eq!(found.v2, path("/sys/fs/cgroup/fnctr/a"));
        let of = "4:memory:/fnctr/a\n0::/fnctr/a\n";
        let found = paths(HYBRID, "4:memory:/\n0::/\n", of).unwrap();
        assert_eq!(found.memory, path("/sys/fs/cgroup/memory/fnctr/a"));
        assert_eq!(found.v2, path("/sys/fs/cgroup/unified/fnctr/a"));
    }

    #[test]
    fn a_directory_that_we_live_in_is_never_a_containers() {
        let own = "4:memory:/agent/me\n0::/agent/me\n";
        for shared in ["/", "/agent", "/agent/me"] {
            let of = format!("4:memory:{shared}\n0::{shared}\n");
            assert_eq!(paths(HYBRID, own, &of), None, "{shared}");
        }
        let partly = paths(HYBRID, own, "4:memory:/fnctr/a\n0::/\n").unwrap();
        assert_eq!(
            (partly.v2, partly.memory),
            (None, path("/sys/fs/cgroup/memory/fnctr/a"))
        );
        assert!(paths(HYBRID, own, "0::/agent/me2\n").is_some());
        assert!(paths(HYBRID, own, "0::/agent/me/child\n").is_some());
    }

    #[test]
    fn a_removed_cgroup_and_a_broken_line_are_passed_over() {
        let parsed = Membership::parse("0::/fnctr/a (deleted)\nnonsense\n4:memory:/with:colon\n");
        assert_eq!(parsed.path(""), None);
        assert_eq!(parsed.path("memory"), Some("/with:colon"));
    }

    #[test]
    fn our_own_process_is_not_a_container() {
        let root = Root::probe().unwrap();
        let error = root.of_pid(std::process::id()).unwrap_err();
        assert!(
            matches!(error, super::super::Error::NotContained { .. }),
            "{error}"
        );
        assert!(root.of_pid(u32::MAX).unwrap_err().is_gone());
    }
}
