//! Whether the kernel killed a container's processes for lack of memory, and whose limit was hit.
//!
//! Must be read before the container's cgroup is removed, because the counters are removed with it. Whose limit was hit
//! is determined only after a kill. The only preparation is [`Above::note`], which reads two small files for each level
//! above the container.

mod log;

use std::path::{Path, PathBuf};

pub(crate) use self::log::OomLog;
use super::error::Error;
use super::files::{keyed, read, read_number};
use super::layout::Version;
use super::paths::Paths;

/// A v1 limit above this value means that there is none.
const UNLIMITED: u64 = u64::MAX / 4;

/// The largest allocation for which the kernel kills: eight pages (PAGE_ALLOC_COSTLY_ORDER) of up to 64 KiB each.
const LAST_CHARGE: u64 = 8 * (64 << 10);

/// Whose limit was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LimitOwner {
    /// The container's own limit.
    Own,
    /// A limit that the container set itself, on a part of it.
    Inside,
    /// The limit of a cgroup above the container.
    Above {
        /// Its directory.
        dir: PathBuf,
        /// Its limit in bytes, if it still has one.
        limit: Option<u64>,
    },
    /// The machine's whole memory.
    Machine,
    /// It cannot be determined.
    Unknown,
}

/// The kernel's record of out-of-memory kills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OomCount {
    /// Processes killed for lack of memory since the cgroup was created.
    pub(crate) kills: u64,
    /// The container's own limit in bytes.
    pub(crate) limit: Option<u64>,
    /// Whose limit was hit; `None` without a kill.
    pub(crate) whose: Option<LimitOwner>,
}

/// How often the limits above a container had been hit at one moment, from the nearest level upwards. Any increase at
/// the end happened in between. Without this, an earlier hit of a parent's limit would be taken for the reason of each
/// later kill.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Above {
    levels: Vec<(PathBuf, u64)>,
    /// Above the last level there is only the root of the hierarchy, which has no limit.
    to_the_root: bool,
    /// The counts were read before the container's first process ran.
    since_birth: bool,
}

impl Above {
    /// Reads the counts now. `since_birth` means that nothing of the container has run yet.
    pub(crate) fn note(paths: &Paths, since_birth: bool) -> Self {
        let Some((version, dir)) = paths.controller(&paths.memory) else {
            return Self::default();
        };
        let mut levels = Vec::new();
        let mut level = dir.parent();
        while let Some(dir) = level
            && let Some(hits) = hits(version, dir)
        {
            levels.push((dir.to_owned(), hits));
            level = dir.parent();
        }
        let to_the_root = match version {
            // The root of the v2 tree is the only cgroup without this file and without memory.events.local.
            Version::V2 => level
                .is_some_and(|dir| dir.join("cgroup.procs").exists() && !dir.join("cgroup.type").exists()),
            // The root of a v1 hierarchy has the same files as all other cgroups, and one more.
            Version::V1 => levels
                .last()
                .is_some_and(|(dir, _)| dir.join("release_agent").exists()),
        };
        Self {
            levels,
            to_the_root,
            since_birth,
        }
    }

    /// Whose limit was hit since the note, if it was not the container's own.
    fn blame(&self, version: Version) -> LimitOwner {
        let now: Vec<_> = self
            .levels
            .iter()
            .map(|(dir, before)| (dir, *before, hits(version, dir)))
            .collect();
        let hit = now
            .iter()
            .find(|(_, before, now)| now.is_some_and(|now| now > *before));
        if let Some((dir, ..)) = hit {
            return LimitOwner::Above {
                dir: (*dir).clone(),
                limit: limit(version, dir),
            };
        }
        let never = now.iter().all(|(.., now)| *now == Some(0));
        // A v1 level that was full before may have been full again, which no counter shows.
        let certain = self.since_birth && version == Version::V2;
        if self.to_the_root && (certain || never) {
            LimitOwner::Machine
        } else {
            LimitOwner::Unknown
        }
    }
}

/// How often a cgroup's own limit was about to make an allocation fail. v1 reports only how often the limit was
/// reached. `None` at the root of the v2 tree, above a mount, and on v2 before kernel 5.2.
fn hits(version: Version, dir: &Path) -> Option<u64> {
    match version {
        Version::V2 => keyed(&read(dir, "memory.events.local").ok()??, "oom"),
        Version::V1 => {
            let (failures, full) = reached(dir).ok()??;
            Some(failures.saturating_add(u64::from(full)))
        }
    }
}

/// How often a v1 cgroup could not charge memory because of its limits, and whether it was ever full.
///
/// If there is a limit on memory and swap together, as runtimes set it, that limit is charged first and counts the
/// failures; but since kernel 6.15 its count stays at 0 (the counter of `memsw` is not tracked). Therefore the
/// high-water marks are read too: when the kernel gives up, less is left than the largest allocation for which it
/// kills.
fn reached(dir: &Path) -> Result<Option<(u64, bool)>, Error> {
    let (mut failures, mut full) = (0, false);
    let files = [
        [
            "memory.failcnt",
            "memory.max_usage_in_bytes",
            "memory.limit_in_bytes",
        ],
        [
            "memory.memsw.failcnt",
            "memory.memsw.max_usage_in_bytes",
            "memory.memsw.limit_in_bytes",
        ],
    ];
    for (n, [failcnt, peak, limit]) in files.into_iter().enumerate() {
        match (
            read_number(dir, failcnt)?,
            read_number(dir, peak)?,
            read_number(dir, limit)?,
        ) {
            (Some(failed), Some(peak), Some(limit)) => {
                failures = failed.saturating_add(failures);
                full |= limit_v1(limit).is_some_and(|limit| peak.saturating_add(LAST_CHARGE) > limit);
            }
            // The kernel does not account for swap.
            _ if n > 0 => {}
            _ => return Ok(None),
        }
    }
    Ok(Some((failures, full)))
}

/// The limit of an existing cgroup.
fn limit(version: Version, dir: &Path) -> Option<u64> {
    match version {
        Version::V2 => limit_v2(&read(dir, "memory.max").ok()??),
        Version::V1 => limit_v1(read_number(dir, "memory.limit_in_bytes").ok()??),
    }
}

/// The limit of an existing cgroup of the v2 tree.
pub(super) fn limit_of(dir: &Path) -> Option<u64> {
    limit(Version::V2, dir)
}

/// Only the kernel's count of kills, for statistics. On v1 it excludes cgroups that the container created.
pub(super) fn kills(paths: &Paths) -> Result<Option<u64>, Error> {
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
    let count = match version {
        Version::V2 => {
            let Some(events) = read(dir, "memory.events")? else {
                return Ok(None);
            };
            let local = read(dir, "memory.events.local")?;
            // All files of a controller disappear together, so if this one is missing, the cgroup was removed
            // meanwhile.
            let limit = read(dir, "memory.max")?.map(|text| limit_v2(&text));
            v2(&events, local.as_deref(), limit)
        }
        Version::V1 => {
            let Some(control) = read(dir, "memory.oom_control")? else {
                return Ok(None);
            };
            let reached = reached(dir)?.map(|(failures, full)| failures > 0 || full);
            let limit = read_number(dir, "memory.limit_in_bytes")?.map(limit_v1);
            v1(&control, reached, limit)
        }
    };
    Ok(count.map(|(kills, limit, blame)| OomCount {
        kills,
        limit,
        whose: (kills > 0).then(|| match blame {
            Blame::Owner(whose) => whose,
            Blame::NotItsOwn => above.blame(version),
        }),
    }))
}

/// What the container's own files reveal about whose limit was hit.
#[derive(Debug, PartialEq, Eq)]
enum Blame {
    Owner(LimitOwner),
    NotItsOwn,
}

/// Kills, the container's own limit, and whose limit it was.
type Record = Option<(u64, Option<u64>, Blame)>;

/// `oom_kill` counts the victims in the container and below it. `oom` counts how often a limit there was about to make
/// an allocation fail, and in the local file only the container's own limit. Kernels before 5.2 have no local file;
/// then the count of the whole subtree is used. `limit` is `None` if the cgroup was removed before the limit was read.
fn v2(events: &str, local: Option<&str>, limit: Option<Option<u64>>) -> Record {
    let kills = keyed(events, "oom_kill")?;
    let Some(limit) = limit else {
        return Some((kills, None, Blame::Owner(LimitOwner::Unknown)));
    };
    let subtree = keyed(events, "oom").unwrap_or(0);
    let own = local.map_or(subtree, |local| keyed(local, "oom").unwrap_or(0));
    let blame = if own > 0 {
        Blame::Owner(LimitOwner::Own)
    } else if subtree > 0 {
        Blame::Owner(LimitOwner::Inside)
    } else {
        Blame::NotItsOwn
    };
    Some((kills, limit, blame))
}

/// v1 counts victims of this cgroup only, and has no count like `oom`; that a limit was reached must serve instead.
fn v1(control: &str, reached: Option<bool>, limit: Option<Option<u64>>) -> Record {
    let kills = keyed(control, "oom_kill")?;
    let (Some(reached), Some(limit)) = (reached, limit) else {
        return Some((kills, None, Blame::Owner(LimitOwner::Unknown)));
    };
    let blame = if reached {
        Blame::Owner(LimitOwner::Own)
    } else {
        Blame::NotItsOwn
    };
    Some((kills, limit, blame))
}

/// `memory.max`: a number or `max`.
pub(super) fn limit_v2(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `memory.limit_in_bytes`: the largest multiple of a page means no limit.
pub(super) fn limit_v1(bytes: u64) -> Option<u64> {
    (bytes < UNLIMITED).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Root;
    use super::super::testing::Limited;
    use super::*;

    const EVENTS: &str = "low 0\nhigh 0\nmax 143\noom 1\noom_kill 1\noom_group_kill 0\n";
    const CALM: &str = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n";
    /// Killed, although no limit at or below the container was hit.
    const VICTIM: &str = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 0\n";

    fn own(kills: u64, limit: Option<u64>) -> Record {
        Some((kills, limit, Blame::Owner(LimitOwner::Own)))
    }

    #[test]
    fn an_own_limit_is_told_from_one_inside_and_one_elsewhere() {
        let limit = Some(64 << 20);
        assert_eq!(v2(EVENTS, Some(EVENTS), Some(limit)), own(1, limit));
        let inside = Blame::Owner(LimitOwner::Inside);
        assert_eq!(v2(EVENTS, Some(CALM), Some(limit)), Some((1, limit, inside)));
        let elsewhere = Some((1, None, Blame::NotItsOwn));
        assert_eq!(v2(VICTIM, Some(VICTIM), Some(None)), elsewhere);
        assert_eq!(v2(EVENTS, None, Some(limit)), own(1, limit));
        assert_eq!(v2("garbage", None, Some(None)), None);
    }

    #[test]
    fn reaching_the_limit_without_a_kill_is_no_kill() {
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n";
        assert_eq!(v1(control, Some(true), Some(Some(1))).unwrap().0, 0);
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        assert_eq!(v1(control, Some(true), Some(Some(1))), own(2, Some(1)));
        assert_eq!(
            v1(control, Some(false), Some(None)),
            Some((2, None, Blame::NotItsOwn))
        );
        // Kernels before 4.13 do not count.
        assert_eq!(
            v1("oom_kill_disable 0\nunder_oom 0\n", Some(true), Some(None)),
            None
        );
    }

    #[test]
    fn a_cgroup_that_goes_away_while_it_is_read_has_kills_and_no_made_up_limit() {
        let torn = |kills| Some((kills, None, Blame::Owner(LimitOwner::Unknown)));
        assert_eq!(v2(EVENTS, None, None), torn(1));
        assert_eq!(v1("oom_kill 3\n", Some(true), None), torn(3));
        assert_eq!(v1("oom_kill 3\n", None, None), torn(3));
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
    fn what_was_hit_before_anybody_looked_stays_open() {
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
