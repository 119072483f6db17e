//! All directories that a runtime creates for one container: inspecting, emptying and removing them when no runtime
//! does so any more.
//!
//! A runtime that is killed while it works leaves its container's directory in each hierarchy, including those of
//! controllers that this module does not read (`devices`, `name=systemd`). The directories hold kernel memory, and no
//! other program removes them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::error::{Error, is_gone};
use crate::Context;
use crate::pauses::Pauses;

/// How long one attempt waits for killed processes to disappear; the kernel needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before the directories are inspected again. Doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(50);
/// How many times the processes of a cgroup without `cgroup.kill` are listed: each round finds those that were forked
/// in the one before.
const ROUNDS: u32 = 5;

/// The directories of one cgroup, one per mounted hierarchy. They need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupDirs(Vec<PathBuf>);

impl CgroupDirs {
    pub(super) fn new(dirs: Vec<PathBuf>) -> Self {
        Self(dirs)
    }

    /// The directories that exist.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(PathBuf::as_path).filter(|dir| dir.is_dir())
    }

    /// Whether the cgroup exists in any hierarchy.
    pub(crate) fn exist(&self) -> bool {
        self.dirs().next().is_some()
    }

    /// Whether there is a process in the cgroup or below it, in any hierarchy.
    pub(crate) fn is_populated(&self) -> bool {
        self.dirs().any(is_populated)
    }

    /// Kills every process in the cgroup and below it, frozen or not, with or without a v2 tree. Returns when the
    /// signals are sent. A process that cannot be signalled is left to the next call.
    pub(crate) fn kill(&self) {
        // Where the v2 tree contains the processes, this one write is enough, and frozen processes die too
        // (cgroup-v2.rst).
        let killed = self.dirs().any(|dir| write(dir, "cgroup.kill", "1").is_ok());
        // Processes that a v1 freezer holds cannot fork while they are listed and signalled; they die when they thaw.
        for (freeze, rounds) in [(!killed, 1), (false, ROUNDS)] {
            if freeze {
                self.write_all("freezer.state", "FROZEN");
            }
            for _ in 0..rounds {
                let pids: Vec<_> = self.dirs().flat_map(|dir| processes(dir, true)).collect();
                if pids.is_empty() {
                    break;
                }
                for (dir, pid) in pids {
                    kill_in(&dir, pid);
                }
            }
            self.write_all("freezer.state", "THAWED");
            if killed {
                return;
            }
        }
    }

    /// Removes the directories that contain no process. Returns whether none is left.
    pub(crate) fn remove_empty(&self) -> bool {
        self.0.iter().all(|dir| remove_tree(dir).is_ok())
    }

    /// The names of the cgroups directly below this one, in any hierarchy.
    pub(crate) fn children(&self) -> impl Iterator<Item = String> {
        let below = self.dirs().flat_map(children);
        below.filter_map(|child| child.file_name()?.to_str().map(str::to_owned))
    }

    /// Removes the directories that contain neither processes nor cgroups, and keeps the others.
    pub(crate) fn remove_childless(&self) {
        for dir in self.dirs() {
            if let Err(error) = fs::remove_dir(dir) {
                tracing::debug!(dir = %dir.display(), %error, "cannot remove a directory of a cgroup; it is kept");
            }
        }
    }

    /// Kills the processes in the cgroup, and removes its directories.
    ///
    /// # Errors
    /// [`Error::Io`] for the first directory that still exists after some seconds.
    ///
    /// # Cancellation
    /// Safe to drop: a later call can remove the directories that are left.
    pub(crate) async fn remove(&self, ctx: &Context) -> Result<(), Error> {
        let ctx = ctx.with_timeout(PATIENCE);
        let mut pauses = Pauses::new(PAUSE, MAX_PAUSE);
        while !self.remove_empty() {
            self.kill();
            if ctx.run(pauses.wait()).await.is_err() {
                return self.0.iter().try_for_each(|dir| {
                    remove_tree(dir).map_err(|source| Error::Io {
                        op: "remove",
                        path: dir.clone(),
                        source,
                    })
                });
            }
        }
        Ok(())
    }

    fn write_all(&self, file: &str, text: &str) {
        for dir in self.dirs() {
            // Only the v1 freezer's directory has the file.
            drop(write(dir, file, text));
        }
    }
}

/// The pids of all processes of a cgroup and those below it, as this process's pid namespace has them.
pub(crate) fn pids(dir: &Path) -> BTreeSet<u32> {
    let found = processes(dir, true).into_iter();
    found
        .filter_map(|(_, pid)| u32::try_from(pid.as_raw_pid()).ok())
        .collect()
}

/// Writes to a kernel file; never creates it.
fn write(dir: &Path, file: &str, text: &str) -> io::Result<()> {
    let mut file = fs::File::options().write(true).open(dir.join(file))?;
    io::Write::write_all(&mut file, text.as_bytes())
}

/// The cgroups directly below `dir`.
fn children(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

fn is_populated(dir: &Path) -> bool {
    // The v2 tree's file covers the cgroups below this one too.
    if let Ok(events) = fs::read_to_string(dir.join("cgroup.events"))
        && let Some(populated) = events.lines().find_map(|line| line.strip_prefix("populated "))
    {
        return populated.trim() == "1";
    }
    !processes(dir, false).is_empty() || children(dir).any(|child| is_populated(&child))
}

/// The processes of a cgroup, each with its directory; with `all`, also those of the cgroups below it.
fn processes(dir: &Path, all: bool) -> Vec<(PathBuf, Pid)> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0 stands for a process of another pid namespace, which has no number here.
    let pids = text.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    let mut found: Vec<_> = pids.map(|pid| (dir.to_owned(), pid)).collect();
    if all {
        found.extend(children(dir).flat_map(|child| processes(&child, true)));
    }
    found
}

/// Kills a process if it is in this cgroup. The number may become another process's at any moment. But if the cgroup
/// lists it while the descriptor is open, it belongs to the process behind the descriptor, or that process has ended.
fn kill_in(dir: &Path, pid: Pid) {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if processes(dir, false).iter().any(|(_, now)| *now == pid)
        && let Err(error) = pidfd_send_signal(&process, Signal::KILL)
    {
        tracing::debug!(%pid, dir = %dir.display(), %error, "cannot kill a process of a cgroup");
    }
}

/// Removes a cgroup and the cgroups below it, deepest first. A cgroup that no longer exists counts as removed.
fn remove_tree(dir: &Path) -> io::Result<()> {
    let removed = match fs::remove_dir(dir) {
        // The cgroup contains others, or processes.
        Err(_) if children(dir).next().is_some() => {
            children(dir).try_for_each(|child| remove_tree(&child))?;
            fs::remove_dir(dir)
        }
        other => other,
    };
    match removed {
        Err(error) if is_gone(&error) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Cgroup;
    use super::super::{Freezer, Root};
    use super::*;

    fn places(cgroup: &Cgroup) -> CgroupDirs {
        CgroupDirs(cgroup.paths().dirs().map(Path::to_owned).collect())
    }

    async fn populated_ones_are_emptied_and_removed(cgroup: Option<Cgroup>, frozen: bool) {
        let Some(mut cgroup) = cgroup else { return };
        let places = places(&cgroup);
        assert!(places.exist() && !places.is_populated());
        cgroup.spawn(5);
        assert!(places.is_populated());
        assert!(!places.remove_empty(), "what lives is not removed in passing");
        if frozen {
            Freezer::of(cgroup.paths()).unwrap().freeze(None).await.unwrap();
        }
        places
            .remove(&Context::timeout(Duration::from_secs(30)))
            .await
            .unwrap();
        assert!(!places.exist() && !places.is_populated());
        // Removing it again, when nothing is left, succeeds.
        places.remove(&Context::new()).await.unwrap();
    }

    #[tokio::test]
    async fn in_the_v2_tree_what_lives_is_killed_and_removed_frozen_or_not() {
        for frozen in [false, true] {
            populated_ones_are_emptied_and_removed(Cgroup::v2("places"), frozen).await;
        }
    }

    #[tokio::test]
    async fn under_the_v1_freezer_what_lives_is_killed_and_removed_frozen_or_not() {
        for frozen in [false, true] {
            populated_ones_are_emptied_and_removed(Cgroup::v1("places"), frozen).await;
        }
    }

    #[test]
    fn what_is_below_counts_and_goes_too() {
        let Some(cgroup) = Cgroup::v2("places-below") else {
            return;
        };
        let places = places(&cgroup);
        let dir = places.dirs().next().unwrap().to_owned();
        fs::create_dir_all(dir.join("a/b")).unwrap();
        assert!(places.remove_empty());
        assert!(!dir.exists());
    }

    #[test]
    fn every_hierarchy_of_the_host_has_its_place_also_those_that_are_only_named() {
        let root = Root::parse(
            "1 0 0:1 / /c/memory rw - cgroup cgroup rw,memory\n\
             2 0 0:2 / /c/devices rw - cgroup cgroup rw,devices\n\
             3 0 0:3 / /c/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             4 0 0:3 /part /elsewhere rw - cgroup cgroup rw,xattr,name=systemd\n\
             5 0 0:4 / /c/unified rw - cgroup2 cgroup2 rw\n",
            "",
        )
        .unwrap();
        let CgroupDirs(mut dirs) = root.places("/fnctr/ns/a").unwrap();
        dirs.sort();
        let expected =
            ["devices", "memory", "systemd", "unified"].map(|name| format!("/c/{name}/fnctr/ns/a"));
        assert_eq!(dirs, expected.map(PathBuf::from));
        assert!(root.places("/").is_err());
    }
}
