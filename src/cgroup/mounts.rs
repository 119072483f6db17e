//! The cgroup mounts of a mount table (`/proc/PID/mountinfo`), and a cgroup's directory in them. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The v1 controllers that this crate reads or reports.
const CONTROLLERS: [&str; 7] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "freezer"];

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// The cgroup that is visible at the mount point, as `/proc/PID/cgroup` writes it. Not `/` inside a container
    /// without a cgroup namespace of its own, and full of `..` for a mount from outside the namespace.
    pub(super) root: String,
}

impl Hierarchy {
    /// The directory of a cgroup, by its path in `/proc/PID/cgroup`. `None` if the cgroup is not visible through this
    /// mount, or is the mount's own top.
    pub(super) fn dir(&self, cgroup: &str) -> Option<PathBuf> {
        let below = Path::new(cgroup).strip_prefix(&self.root).ok()?;
        let visible = below
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        let below_top = below.components().next().is_some();
        (visible && below_top).then(|| self.point.join(below))
    }
}

/// The hierarchies of a mount table: the v2 tree, and the v1 controllers by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    /// The cgroup2 tree.
    pub(super) v2: Option<Hierarchy>,
    /// The v1 hierarchy of each controller.
    pub(super) v1: BTreeMap<&'static str, Hierarchy>,
    /// Every hierarchy once, by the kernel's name for it, including those of controllers that this crate does not read.
    pub(super) every: BTreeMap<String, Hierarchy>,
}

impl Mounts {
    /// Parses a mountinfo file. If a hierarchy is mounted several times, the mount that shows most of it wins, then the
    /// mount in the usual place, then the last one (which covers earlier ones on the same directory).
    pub(super) fn parse(mountinfo: &str) -> Self {
        let mut found: Vec<_> = mountinfo.lines().filter_map(line).collect();
        found.sort_by_key(|(hierarchy, _)| {
            let depth = Path::new(&hierarchy.root).components().count();
            Reverse((depth, !hierarchy.point.starts_with("/sys/fs/cgroup")))
        });
        let mut mounts = Self::default();
        for (hierarchy, controllers) in found {
            mounts
                .every
                .insert(controllers.unwrap_or_default().to_owned(), hierarchy.clone());
            match controllers {
                None => mounts.v2 = Some(hierarchy),
                Some(names) => {
                    let known = CONTROLLERS
                        .iter()
                        .filter(|name| names.split(',').any(|n| n == **name));
                    mounts.v1.extend(known.map(|name| (*name, hierarchy.clone())));
                }
            }
        }
        mounts
    }

    /// The mounts of a directory that replaces `/sys/fs/cgroup`: unified if it contains `cgroup.controllers`, else
    /// hybrid or v1 by its subdirectories.
    #[cfg(test)]
    pub(super) fn at(dir: &Path) -> Self {
        let at = |point: PathBuf| {
            point.is_dir().then(|| Hierarchy {
                point,
                root: "/".to_owned(),
            })
        };
        let (v2, v1) = if dir.join("cgroup.controllers").exists() {
            (at(dir.to_owned()), BTreeMap::new())
        } else {
            let v1 = CONTROLLERS
                .iter()
                .filter_map(|name| Some((*name, at(dir.join(name))?)));
            (at(dir.join("unified")), v1.collect())
        };
        let named = v1
            .iter()
            .map(|(name, hierarchy): (&&str, &Hierarchy)| ((*name).to_owned(), hierarchy.clone()));
        let every = v2
            .iter()
            .map(|v2: &Hierarchy| (String::new(), v2.clone()))
            .chain(named)
            .collect();
        Self { v2, v1, every }
    }
}

/// Parses a line such as `36 35 98:0 /root /point rw,noatime shared:1 - cgroup2 cgroup2 rw,nsdelegate`. For v1 the
/// result includes the super options, which name the controllers.
pub(super) fn line(line: &str) -> Option<(Hierarchy, Option<&str>)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let controllers = match file_system.next()? {
        "cgroup2" => None,
        "cgroup" => Some(file_system.nth(1)?),
        _ => return None,
    };
    let hierarchy = Hierarchy {
        point: unescape(point).into(),
        root: unescape(root).into_string().ok()?,
    };
    Some((hierarchy, controllers))
}

/// Decodes the kernel's octal escapes of space, tab, newline and backslash.
fn unescape(field: &str) -> std::ffi::OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(root: &str, point: &str) -> Hierarchy {
        Hierarchy {
            point: point.into(),
            root: root.to_owned(),
        }
    }

    #[test]
    fn a_cgroup_is_found_below_the_part_that_is_mounted() {
        let cases = [
            // (mount root, cgroup, directory below the mount point)
            ("/", "/fnctr/a", Some("/m/fnctr/a")),
            ("/docker/x", "/docker/x/fnctr/a", Some("/m/fnctr/a")),
            ("/../..", "/../../kubepods/b", Some("/m/kubepods/b")),
            ("/", "/", None),
            ("/docker/x", "/docker/x", None),
            ("/docker/x", "/docker/xy", None),
            ("/docker/x", "/elsewhere", None),
            ("/", "/../sibling", None),
            ("/..", "/child-whose-parent-has-no-name-here", None),
        ];
        for (root, cgroup, expected) in cases {
            assert_eq!(
                hierarchy(root, "/m").dir(cgroup),
                expected.map(PathBuf::from),
                "{cgroup} through {root}"
            );
        }
    }

    #[test]
    fn escapes_in_a_mount_point_are_undone() {
        let line = r"41 31 0:38 / /mnt/a\040b\134c rw - cgroup2 cgroup2 rw";
        assert_eq!(Mounts::parse(line).v2, Some(hierarchy("/", r"/mnt/a b\c")));
        assert_eq!(unescape(r"\9\04"), r"\9\04");
    }

    #[test]
    fn the_mount_that_shows_most_wins() {
        let text = "1 0 0:38 /sub /run/part rw - cgroup2 none rw\n\
                    2 0 0:38 / /run/elsewhere rw - cgroup2 none rw\n\
                    3 0 0:38 / /sys/fs/cgroup rw - cgroup2 none rw\n\
                    4 0 0:38 /sub /sys/fs/cgroup/part rw - cgroup2 none rw\n";
        assert_eq!(Mounts::parse(text).v2, Some(hierarchy("/", "/sys/fs/cgroup")));
    }

    #[test]
    fn lines_that_are_not_cgroups_or_not_lines_are_passed_over() {
        let text = "garbage\n1 2 3 - cgroup2\n22 27 0:21 / /proc rw,relatime - proc proc rw\n";
        assert_eq!(Mounts::parse(text), Mounts::default());
    }
}
