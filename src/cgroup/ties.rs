//! The cgroups through which a service manager ends or stops everything that a process has started: the v2 tree, the
//! named v1 hierarchies in which systemd, OpenRC and elogind keep services and sessions, and the v1 freezer.
//!
//! The v1 hierarchies of resource controllers do not count: a cgroup there only limits resources, and no manager ends a
//! service through it.

use std::path::{Path, PathBuf};

use super::mounts::{Hierarchy, line};

/// A cgroup that contains this process and is not the top of its hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tie {
    /// The cgroup's directory.
    pub(crate) dir: PathBuf,
    /// The top of the hierarchy, as far as it is visible from this process.
    pub(crate) top: PathBuf,
}

/// The ties of this process; empty if `/proc` cannot be read.
pub(crate) fn ties() -> Vec<Tie> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// Where every hierarchy is mounted.
pub(crate) fn tops() -> Vec<PathBuf> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let hierarchies = mountinfo.lines().filter_map(line);
    hierarchies.map(|(hierarchy, _)| hierarchy.point).collect()
}

/// The ties, from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`. Pure.
fn parse(mountinfo: &str, own: &str) -> Vec<Tie> {
    let mut ties: Vec<Tie> = Vec::new();
    for (hierarchy, options) in mountinfo.lines().filter_map(line) {
        let Some(dir) = cgroup(&hierarchy, options, own) else {
            continue;
        };
        // A hierarchy may be mounted in several places.
        if !ties.iter().any(|tie| is_same(&tie.dir, &dir)) {
            ties.push(Tie {
                dir,
                top: hierarchy.point,
            });
        }
    }
    ties
}

/// The directory of this process's cgroup in a hierarchy, if managers end processes through that hierarchy.
fn cgroup(hierarchy: &Hierarchy, options: Option<&str>, own: &str) -> Option<PathBuf> {
    let wanted = |controllers: &str| match options {
        None => controllers.is_empty(),
        Some(options) => controllers.split(',').any(|name| {
            let ends = name == "freezer" || name.starts_with("name=");
            ends && options.split(',').any(|option| option == name)
        }),
    };
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        wanted(controllers).then(|| hierarchy.dir(path)).flatten()
    })
}

fn is_same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    let of = |dir: &Path| dir.metadata().ok().map(|found| (found.dev(), found.ino()));
    one == other || (of(one).is_some() && of(one) == of(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(mountinfo: &str, own: &str) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        let ties = parse(mountinfo, own);
        ties.iter().map(|tie| (text(&tie.dir), text(&tie.top))).collect()
    }

    fn tie(dir: &str, top: &str) -> (String, String) {
        (dir.to_owned(), top.to_owned())
    }

    #[test]
    fn on_a_unified_host_it_is_the_one_cgroup() {
        let mounts = "1 0 0:38 / /m/cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            dirs(mounts, "0::/user.slice/session-1.scope\n"),
            [tie("/m/cg/user.slice/session-1.scope", "/m/cg")]
        );
        assert_eq!(dirs(mounts, "0::/\n"), []);
    }

    #[test]
    fn on_a_hybrid_host_it_is_the_tree_the_named_hierarchy_and_the_freezer_but_no_limit() {
        let mounts = "1 0 0:30 / /m/unified rw - cgroup2 cgroup2 rw\n\
                      2 0 0:31 / /m/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                      3 0 0:32 / /m/memory rw - cgroup cgroup rw,memory\n\
                      4 0 0:33 / /m/freezer rw - cgroup cgroup rw,freezer\n";
        let own = "4:freezer:/s\n3:memory:/s\n2:name=systemd:/s\n1:name=other:/s\n0::/s\n";
        assert_eq!(
            dirs(mounts, own),
            [
                tie("/m/unified/s", "/m/unified"),
                tie("/m/systemd/s", "/m/systemd"),
                tie("/m/freezer/s", "/m/freezer"),
            ]
        );
    }

    #[test]
    fn in_a_container_it_is_what_shows_below_its_own_mount() {
        let mounts = "1 0 0:38 /docker/1 /m/cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(dirs(mounts, "0::/docker/1\n"), []);
        assert_eq!(dirs(mounts, "0::/docker/1/job\n"), [tie("/m/cg/job", "/m/cg")]);
        assert_eq!(dirs(mounts, "0::/elsewhere\n"), []);
    }
}
