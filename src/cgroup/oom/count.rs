//! The kernel's count of kills, and the reason that the container's own files reveal.

use super::above::Above;
use super::hits::reached;
use super::limit::{limit_v1, limit_v2};
use super::limit_owner::LimitOwner;
use crate::cgroup::error::Error;
use crate::cgroup::files::{keyed, read, read_number};
use crate::cgroup::layout::Version;
use crate::cgroup::paths::Paths;

/// The kernel's record of out-of-memory kills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OomCount {
    /// Processes killed for lack of memory since the cgroup was created.
    pub(crate) kills: u64,
    /// The container's own limit in bytes. `None` if it has none, or if the cgroup was removed before the limit was
    /// read.
    pub(crate) limit: Option<u64>,
    /// Whose limit was hit; `None` without a kill.
    pub(crate) whose: Option<LimitOwner>,
}

/// Only the kernel's count of kills, for statistics. On v1 it excludes cgroups that the container created.
pub(in crate::cgroup) fn kills(paths: &Paths) -> Result<Option<u64>, Error> {
    let Some((version, dir)) = paths.controller(&paths.memory) else {
        return Ok(None);
    };
    let file = match version {
        Version::V2 => "memory.events",
        Version::V1 => "memory.oom_control",
    };
    Ok(read(dir, file)?.and_then(|text| keyed(&text, "oom_kill")))
}

/// Reads the kernel's record. `None` if there is none: the cgroup no longer exists, memory is not controlled, or the
/// kernel is older than 4.13 and does not count. If the cgroup is removed during the read, the count of kills is
/// returned without the limit.
pub(crate) fn oom_kills(paths: &Paths, above: &Above) -> Result<Option<OomCount>, Error> {
    let Some((version, dir)) = paths.controller(&paths.memory) else {
        return Ok(None);
    };
    let record = match version {
        Version::V2 => {
            let Some(events) = read(dir, "memory.events")? else {
                return Ok(None);
            };
            let local = read(dir, "memory.events.local")?;
            // All files of a controller disappear together, so if this one is missing, the cgroup was removed
            // meanwhile.
            let limit = read(dir, "memory.max")?.map(|text| limit_v2(&text));
            record_v2(&events, local.as_deref(), limit)
        }
        Version::V1 => {
            let Some(control) = read(dir, "memory.oom_control")? else {
                return Ok(None);
            };
            let reached = reached(dir)?.map(|(failures, full)| failures > 0 || full);
            let limit = read_number(dir, "memory.limit_in_bytes")?.map(limit_v1);
            record_v1(&control, reached, limit)
        }
    };
    Ok(record.map(|record| OomCount {
        kills: record.kills,
        limit: record.limit,
        whose: (record.kills > 0).then(|| match record.blame {
            Blame::Owner(whose) => whose,
            Blame::Elsewhere => above.blame(version),
        }),
    }))
}

/// What the container's own files reveal about whose limit was hit.
#[derive(Debug, PartialEq, Eq)]
enum Blame {
    /// This owner, or that it cannot be determined.
    Owner(LimitOwner),
    /// No limit of the container or of a part of it: a limit above the container, or the machine's memory.
    Elsewhere,
}

/// The content of the container's own files.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    kills: u64,
    /// As in [`OomCount`].
    limit: Option<u64>,
    blame: Blame,
}

impl Record {
    /// The record of a cgroup that was removed before all of its files were read.
    fn incomplete(kills: u64) -> Self {
        Self {
            kills,
            limit: None,
            blame: Blame::Owner(LimitOwner::Unknown),
        }
    }
}

/// `oom_kill` counts the victims in the container and below it. `oom` counts how often an allocation was about to fail:
/// in `memory.events` at any limit in the subtree, in `memory.events.local` at the container's own limit. Kernels before
/// 5.2 have no local file; then the count of the whole subtree is used. `limit` is `None` if the cgroup was removed
/// before the limit was read.
fn record_v2(events: &str, local: Option<&str>, limit: Option<Option<u64>>) -> Option<Record> {
    let kills = keyed(events, "oom_kill")?;
    let Some(limit) = limit else {
        return Some(Record::incomplete(kills));
    };
    let subtree = keyed(events, "oom").unwrap_or(0);
    let own = local.map_or(subtree, |local| keyed(local, "oom").unwrap_or(0));
    let blame = if own > 0 {
        Blame::Owner(LimitOwner::Own)
    } else if subtree > 0 {
        Blame::Owner(LimitOwner::Inside)
    } else {
        Blame::Elsewhere
    };
    Some(Record { kills, limit, blame })
}

/// v1 counts victims of this cgroup only. It has no count like `oom`, so a limit that was ever reached is taken as the
/// cause. `reached` and `limit` are `None` if the cgroup was removed before they were read.
fn record_v1(control: &str, reached: Option<bool>, limit: Option<Option<u64>>) -> Option<Record> {
    let kills = keyed(control, "oom_kill")?;
    let (Some(reached), Some(limit)) = (reached, limit) else {
        return Some(Record::incomplete(kills));
    };
    let blame = if reached {
        Blame::Owner(LimitOwner::Own)
    } else {
        Blame::Elsewhere
    };
    Some(Record { kills, limit, blame })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::hits::hits;
    use super::*;
    use crate::cgroup::Root;
    use crate::cgroup::testing::Limited;

    const EVENTS: &str = "low 0\nhigh 0\nmax 143\noom 1\noom_kill 1\noom_group_kill 0\n";
    const CALM: &str = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n";
    /// Killed, although no limit at or below the container was hit.
    const VICTIM: &str = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 0\n";

    fn own(kills: u64, limit: Option<u64>) -> Option<Record> {
        record(kills, limit, Blame::Owner(LimitOwner::Own))
    }

    fn record(kills: u64, limit: Option<u64>, blame: Blame) -> Option<Record> {
        Some(Record { kills, limit, blame })
    }

    #[test]
    fn an_own_limit_is_distinguished_from_one_inside_and_one_elsewhere() {
        let limit = Some(64 << 20);
        assert_eq!(record_v2(EVENTS, Some(EVENTS), Some(limit)), own(1, limit));
        let inside = record(1, limit, Blame::Owner(LimitOwner::Inside));
        assert_eq!(record_v2(EVENTS, Some(CALM), Some(limit)), inside);
        let elsewhere = record(1, None, Blame::Elsewhere);
        assert_eq!(record_v2(VICTIM, Some(VICTIM), Some(None)), elsewhere);
        assert_eq!(record_v2(EVENTS, None, Some(limit)), own(1, limit));
        assert_eq!(record_v2("garbage", None, Some(None)), None);
    }

    #[test]
    fn reaching_the_limit_without_a_kill_is_no_kill() {
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n";
        assert_eq!(record_v1(control, Some(true), Some(Some(1))).unwrap().kills, 0);
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        assert_eq!(record_v1(control, Some(true), Some(Some(1))), own(2, Some(1)));
        assert_eq!(
            record_v1(control, Some(false), Some(None)),
            record(2, None, Blame::Elsewhere)
        );
        // Kernels before 4.13 do not count.
        assert_eq!(
            record_v1("oom_kill_disable 0\nunder_oom 0\n", Some(true), Some(None)),
            None
        );
    }

    #[test]
    fn a_cgroup_that_goes_away_while_it_is_read_has_kills_and_no_made_up_limit() {
        let torn = |kills| record(kills, None, Blame::Owner(LimitOwner::Unknown));
        assert_eq!(record_v2(EVENTS, None, None), torn(1));
        assert_eq!(record_v1("oom_kill 3\n", Some(true), None), torn(3));
        assert_eq!(record_v1("oom_kill 3\n", None, None), torn(3));
    }

    #[test]
    fn no_limit_is_none_in_both_spellings() {
        assert_eq!(limit_v2("max\n"), None);
        assert_eq!(limit_v2("67108864\n"), Some(64 << 20));
        assert_eq!(limit_v1(9_223_372_036_854_771_712), None);
        assert_eq!(limit_v1(64 << 20), Some(64 << 20));
    }

    #[test]
    fn a_cgroup_that_is_gone_has_no_record() {
        for paths in [
            Paths::default(),
            Paths {
                v2: Some(PathBuf::from("/nonexistent/cgroup")),
                ..Paths::default()
            },
            Paths {
                memory: Some(PathBuf::from("/nonexistent/cgroup")),
                ..Paths::default()
            },
        ] {
            assert_eq!(oom_kills(&paths, &Above::default()).unwrap(), None);
            assert_eq!(kills(&paths).unwrap(), None);
        }
    }

    /// A v2 tree in a directory: `/top/mid/c`. Each level has the files of its memory controller; the root has none.
    struct Tree {
        dir: tempfile::TempDir,
        paths: Paths,
    }

    impl Tree {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("top/mid/c")).unwrap();
            fs::write(dir.path().join("cgroup.controllers"), "memory").unwrap();
            fs::write(dir.path().join("cgroup.procs"), "").unwrap();
            let tree = Self {
                paths: Root::at(dir.path()).unwrap().of_path("/top/mid/c").unwrap(),
                dir,
            };
            for level in ["top", "top/mid", "top/mid/c"] {
                tree.set(level, "cgroup.type", "domain\n");
                tree.set(level, "memory.max", "max\n");
                tree.set(level, "memory.events", CALM);
                tree.set(level, "memory.events.local", CALM);
            }
            tree
        }

        fn set(&self, level: &str, file: &str, text: &str) {
            fs::write(self.dir.path().join(level).join(file), text).unwrap();
        }

        /// Records a kill in the container that no limit of its own caused.
        fn kill(&self) {
            self.set("top/mid/c", "memory.events", VICTIM);
            self.set("top/mid/c", "memory.events.local", VICTIM);
        }

        fn whose(&self, above: &Above) -> LimitOwner {
            oom_kills(&self.paths, above).unwrap().unwrap().whose.unwrap()
        }
    }

    #[test]
    fn the_parent_whose_limit_was_hit_since_is_named() {
        let tree = Tree::new();
        // An earlier hit of the limit, which must not count as the reason now.
        tree.set("top/mid", "memory.events.local", "oom 4\noom_kill 4\n");
        tree.set("top", "memory.max", "536870912\n");
        let above = Above::note(&tree.paths, true);
        tree.kill();
        tree.set("top", "memory.events.local", "oom 1\noom_kill 0\n");
        let expected = LimitOwner::Above {
            dir: tree.dir.path().join("top"),
            limit: Some(512 << 20),
        };
        assert_eq!(tree.whose(&above), expected);
    }

    #[test]
    fn without_a_limit_that_was_hit_it_was_the_machine() {
        let tree = Tree::new();
        tree.set("top/mid", "memory.events.local", "oom 4\noom_kill 4\n");
        let above = Above::note(&tree.paths, true);
        tree.kill();
        assert_eq!(tree.whose(&above), LimitOwner::Machine);
    }

    #[test]
    fn a_limit_that_was_hit_before_the_first_reading_proves_nothing() {
        let tree = Tree::new();
        tree.set("top/mid", "memory.events.local", "oom 4\noom_kill 4\n");
        tree.kill();
        let above = Above::note(&tree.paths, false);
        assert_eq!(tree.whose(&above), LimitOwner::Unknown);
        // If no limit was ever hit, the answer is certain.
        tree.set("top/mid", "memory.events.local", CALM);
        let above = Above::note(&tree.paths, false);
        assert_eq!(tree.whose(&above), LimitOwner::Machine);
    }

    #[test]
    fn above_a_mount_of_a_part_of_the_tree_there_may_be_more_limits() {
        let tree = Tree::new();
        // Here the apparent top is an ordinary cgroup.
        fs::write(tree.dir.path().join("cgroup.type"), "domain\n").unwrap();
        let above = Above::note(&tree.paths, true);
        tree.kill();
        assert_eq!(tree.whose(&above), LimitOwner::Unknown);
    }

    #[test]
    fn a_parent_that_is_gone_is_passed_over() {
        let tree = Tree::new();
        let above = Above::note(&tree.paths, true);
        tree.kill();
        fs::remove_file(tree.dir.path().join("top/memory.events.local")).unwrap();
        assert_eq!(tree.whose(&above), LimitOwner::Machine);
    }

    #[test]
    fn a_v1_limit_was_reached_by_its_count_or_its_high_water_mark() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(reached(dir).unwrap(), None);
        let set = |file: &str, text: &str| fs::write(dir.join(file), text).unwrap();
        set("memory.failcnt", "3\n");
        set("memory.max_usage_in_bytes", "1000000\n");
        set("memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(reached(dir).unwrap(), Some((3, false)));
        set("memory.memsw.failcnt", "4\n");
        set("memory.memsw.max_usage_in_bytes", "16777216\n");
        set("memory.memsw.limit_in_bytes", "16777216\n");
        assert_eq!(reached(dir).unwrap(), Some((7, true)));
        set("memory.memsw.max_usage_in_bytes", "15000000\n");
        assert_eq!(reached(dir).unwrap(), Some((7, false)));
        assert_eq!(hits(Version::V1, dir), Some(7));
    }

    #[test]
    fn a_real_kill_for_memory_is_counted_with_its_limit() {
        for swap_too in [false, true] {
            let Some(limited) = Limited::new("oom", 8 << 20) else {
                return;
            };
            if swap_too && let Some(dir) = &limited.paths().memory {
                // As a runtime sets it, so that nothing is swapped out.
                if fs::write(dir.join("memory.memsw.limit_in_bytes"), "8388608").is_err() {
                    eprintln!("*** SKIPPED, this host does not account for swap ***");
                    continue;
                }
            }
            let above = Above::note(limited.paths(), true);
            let before = oom_kills(limited.paths(), &above).unwrap().unwrap();
            assert_eq!(
                (before.kills, before.limit, before.whose),
                (0, Some(8 << 20), None)
            );
            // tail keeps an endless line in memory.
            let killed = limited.run("exec tail /dev/zero");
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed), Some(9));
            let seen = oom_kills(limited.paths(), &above).unwrap().unwrap();
            assert_eq!((seen.limit, seen.whose), (Some(8 << 20), Some(LimitOwner::Own)));
            assert_eq!(seen.kills, 1);
            assert_eq!(kills(limited.paths()).unwrap(), Some(1));
            if let Some(dir) = limited.paths().memory.clone() {
                let theirs = cgroups_rs::fs::memory::MemController::new(dir, "/".into(), false);
                assert_eq!(theirs.memory_stat().oom_control.oom_kill, 1);
            }
        }
    }

    #[test]
    fn a_real_parents_limit_is_named_and_not_the_containers() {
        let Some(parent) = Limited::new("oom-above", 8 << 20) else {
            return;
        };
        let child = parent.below("c");
        let above = Above::note(child.paths(), true);
        assert!(above.to_the_root, "{above:?}");
        child.run("exec tail /dev/zero");
        let seen = oom_kills(child.paths(), &above).unwrap().unwrap();
        let (_, dir) = parent.paths().controller(&parent.paths().memory).unwrap();
        let expected = LimitOwner::Above {
            dir: dir.to_owned(),
            limit: Some(8 << 20),
        };
        assert_eq!((seen.kills, seen.limit, seen.whose), (1, None, Some(expected)));
        let nobody_noted = oom_kills(child.paths(), &Above::default()).unwrap().unwrap();
        assert_eq!(nobody_noted.whose, Some(LimitOwner::Unknown));
    }
}
