//! Whether the kernel killed a container's processes for memory, and whose limit it was.
//!
//! Read before the container's cgroup is removed: the counters go with it.

use super::error::Error;
use super::files::{keyed, read, read_number};
use super::paths::Paths;
use super::root::Version;

/// A v1 limit above this is the kernel's way to write "none".
const UNLIMITED: u64 = u64::MAX / 4;

/// Whose limit was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The container's own.
    Own,
    /// One above it, or the machine's whole memory; or one that the container set itself on a part of it.
    Another,
}

/// What the kernel recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OomCount {
    /// Processes killed for memory since the cgroup was made.
    pub(crate) kills: u64,
    /// The container's own limit in bytes.
    pub(crate) limit: Option<u64>,
    /// Whose limit was hit; `None` without a kill.
    pub(crate) whose: Option<Whose>,
}

/// Reads the kernel's record. `None` if there is none: the cgroup is gone, or memory is not controlled.
pub(crate) fn oom_kills(paths: &Paths) -> Result<Option<OomCount>, Error> {
    let Some((version, dir)) = paths.controller(&paths.memory) else {
        return Ok(None);
    };
    match version {
        Version::V2 => {
            let Some(events) = read(dir, "memory.events")? else {
                return Ok(None);
            };
            let local = read(dir, "memory.events.local")?;
            let limit = read(dir, "memory.max")?;
            Ok(v2(&events, local.as_deref(), limit.as_deref().and_then(limit_v2)))
        }
        Version::V1 => {
            let Some(control) = read(dir, "memory.oom_control")? else {
                return Ok(None);
            };
            let limit = read_number(dir, "memory.limit_in_bytes")?.and_then(limit_v1);
            // With a limit on memory and swap together, that one is charged first and counts the failures.
            let failures = read_number(dir, "memory.failcnt")?.unwrap_or(0);
            let swap_failures = read_number(dir, "memory.memsw.failcnt")?.unwrap_or(0);
            Ok(v1(&control, failures.saturating_add(swap_failures), limit))
        }
    }
}

/// `oom_kill` counts the victims of the container and below; the local `oom` counts how often the container's own limit
/// left the kernel no way out. Kernels before 5.2 have no local file: then the whole subtree's count serves.
fn v2(events: &str, local: Option<&str>, limit: Option<u64>) -> Option<OomCount> {
    let kills = keyed(events, "oom_kill")?;
    let own = keyed(local.unwrap_or(events), "oom").unwrap_or(0);
    Some(count(kills, own, limit))
}

/// v1 counts victims of this very cgroup, and failures to charge instead of dead ends.
fn v1(control: &str, failures: u64, limit: Option<u64>) -> Option<OomCount> {
    Some(count(keyed(control, "oom_kill")?, failures, limit))
}

fn count(kills: u64, own: u64, limit: Option<u64>) -> OomCount {
    let whose = if own > 0 { Whose::Own } else { Whose::Another };
    OomCount {
        kills,
        limit,
        whose: (kills > 0).then_some(whose),
    }
}

/// `memory.max`: a number or `max`.
pub(super) fn limit_v2(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `memory.limit_in_bytes`: the largest multiple of a page stands for none.
pub(super) fn limit_v1(bytes: u64) -> Option<u64> {
    (bytes < UNLIMITED).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::testing::Limited;
    use super::*;

    const EVENTS: &str = "low 0\nhigh 0\nmax 143\noom 1\noom_kill 1\noom_group_kill 0\n";
    const CALM: &str = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n";

    fn recorded(kills: u64, limit: Option<u64>, whose: Option<Whose>) -> Option<OomCount> {
        Some(OomCount { kills, limit, whose })
    }

    #[test]
    fn an_own_limit_is_told_from_one_above() {
        let limit = Some(64 << 20);
        assert_eq!(
            v2(EVENTS, Some(EVENTS), limit),
            recorded(1, limit, Some(Whose::Own))
        );
        assert_eq!(
            v2("oom 0\noom_kill 1\n", Some("oom 0\noom_kill 1\n"), None),
            recorded(1, None, Some(Whose::Another))
        );
        assert_eq!(
            v2(EVENTS, Some(CALM), limit),
            recorded(1, limit, Some(Whose::Another))
        );
        assert_eq!(v2(EVENTS, None, limit), recorded(1, limit, Some(Whose::Own)));
        assert_eq!(v2(CALM, Some(CALM), limit), recorded(0, limit, None));
        assert_eq!(v2("garbage", None, None), None);
    }

    #[test]
    fn reaching_the_limit_without_a_kill_is_no_kill() {
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n";
        assert_eq!(v1(control, 9, Some(1)), recorded(0, Some(1), None));
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        assert_eq!(v1(control, 9, Some(1)), recorded(2, Some(1), Some(Whose::Own)));
        assert_eq!(v1(control, 0, None), recorded(2, None, Some(Whose::Another)));
        // Kernels before 4.13 do not count.
        assert_eq!(v1("oom_kill_disable 0\nunder_oom 0\n", 9, None), None);
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
            assert_eq!(oom_kills(&paths).unwrap(), None);
        }
    }

    #[test]
    fn a_real_kill_for_memory_is_counted_with_its_limit() {
        let Some(limited) = Limited::new("oom", 8 << 20) else {
            return;
        };
        assert_eq!(
            oom_kills(limited.paths()).unwrap(),
            recorded(0, Some(8 << 20), None)
        );
        // tail keeps a line without an end in memory.
        let killed = limited.run("exec tail /dev/zero");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed), Some(9));
        let seen = oom_kills(limited.paths()).unwrap().unwrap();
        assert_eq!((seen.limit, seen.whose), (Some(8 << 20), Some(Whose::Own)));
        assert_eq!(seen.kills, 1);
    }
}
