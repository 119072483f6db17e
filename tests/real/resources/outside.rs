//! A container as the kernel shows it to anybody: its first process, and its directory in each hierarchy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::world::ctx;

/// One running container.
#[derive(Debug)]
pub(crate) struct Outside {
    /// Its first process.
    pid: u32,
    /// Its directory per controller; the v2 tree is under the empty name.
    dirs: BTreeMap<String, PathBuf>,
}

impl Outside {
    /// Finds the container by the name of its cgroup, from /proc alone.
    pub(crate) fn find(namespace: &str, id: &str) -> Self {
        let cgroupfs = format!("/{namespace}/{id}");
        // Whatever stands between the two is the driver's business.
        let systemd = format!("-{id}.scope");
        // crun makes one more below the scope, with the limits in it.
        let below = format!("{systemd}/container");
        let scope = |path: &str| path.ends_with(&systemd) || path.ends_with(&below);
        let ends = |path: &str| path.ends_with(&cgroupfs) || (path.contains(namespace) && scope(path));
        let mut pids: Vec<u32> = fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        for pid in pids {
            let Ok(text) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
                continue;
            };
            if !text.lines().any(&ends) {
                continue;
            }
            let mut dirs = BTreeMap::new();
            for line in text.lines().filter(|line| ends(line)) {
                let mut fields = line.splitn(3, ':');
                let (_, names, path) = (fields.next(), fields.next(), fields.next());
                let path = path.expect("a path").trim_start_matches('/');
                for name in names.expect("controllers").split(',') {
                    dirs.insert(name.to_owned(), hierarchy(name).join(path));
                }
            }
            return Self { pid, dirs };
        }
        panic!("no process is in a cgroup of {namespace}/{id}")
    }

    /// The container's directory that holds a controller, and whether that is the v2 tree.
    pub(super) fn dir(&self, controller: &str) -> Option<(&Path, bool)> {
        if let Some(dir) = self.dirs.get(controller) {
            return Some((dir, false));
        }
        let dir = self.dirs.get("")?;
        let controllers = fs::read_to_string(dir.join("cgroup.controllers")).ok()?;
        controllers
            .split_whitespace()
            .any(|name| name == controller)
            .then_some((dir.as_path(), true))
    }

    /// The text of a file of a controller; `v1` and `v2` are its names.
    pub(super) fn read(&self, controller: &str, v1: &str, v2: &str) -> Option<String> {
        let (dir, unified) = self.dir(controller)?;
        let text = fs::read_to_string(dir.join(if unified { v2 } else { v1 })).ok()?;
        Some(text.trim().to_owned())
    }

    /// The container's directory in the v2 tree.
    pub(super) fn v2(&self) -> Option<&Path> {
        self.dirs.get("").map(PathBuf::as_path)
    }

    /// A file of the first process in /proc.
    pub(super) fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid)).expect("the first process to be there")
    }
}

// What only the races look at.
impl Outside {
    /// The first process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it is frozen through the v2 tree.
    pub(crate) fn freezes_apart_from_v1(&self) -> bool {
        self.v2().is_some_and(|dir| dir.join("cgroup.freeze").exists())
    }

    /// What was last asked of the v2 freezer.
    pub(crate) fn freeze_request(&self) -> String {
        let file = self.v2().expect("a v2 tree").join("cgroup.freeze");
        fs::read_to_string(file).expect("the request").trim().to_owned()
    }

    /// Waits for a process in state D.
    pub(crate) async fn until_somebody_sleeps_uninterruptibly(&self) {
        let procs = self.v2().expect("a v2 tree").join("cgroup.procs");
        let asleep = || {
            let pids = fs::read_to_string(&procs).expect("the processes");
            pids.lines().any(|pid| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                // The name before the state may hold anything.
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('D'))
            })
        };
        let patience = ctx();
        while !asleep() {
            assert!(patience.check().is_ok(), "nobody sleeps uninterruptibly");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// One value of a file of `name value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Where a hierarchy is mounted.
fn hierarchy(name: &str) -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    match name {
        "" if unified() => root.to_owned(),
        "" => root.join("unified"),
        name => root.join(name.trim_start_matches("name=")),
    }
}

fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The layout and the controllers of each version.
pub(super) fn layout() -> String {
    let words = |file: &str| {
        let text = fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    if unified() {
        return format!("unified v2 ({})", words("cgroup.controllers"));
    }
    let proc = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let v1: Vec<_> = proc
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|names| !names.is_empty() && !names.starts_with("name="))
        .collect();
    match words("unified/cgroup.controllers") {
        v2 if Path::new("/sys/fs/cgroup/unified").exists() => {
            format!("hybrid (v1: {}; v2: {v2})", v1.join(" "))
        }
        _ => format!("v1 ({})", v1.join(" ")),
    }
}
