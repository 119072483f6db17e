//! How often the limit of a cgroup was hit.

use std::path::Path;

use super::limit::limit_v1;
use crate::cgroup::error::Error;
use crate::cgroup::files::{keyed, read, read_number};
use crate::cgroup::layout::Version;

/// The largest allocation for which the kernel kills: eight pages (PAGE_ALLOC_COSTLY_ORDER) of up to 64 KiB each.
const MAX_OOM_ALLOCATION: u64 = 8 * (64 << 10);

/// How often a cgroup's own limit was about to make an allocation fail. v1 reports only how often the limit was
/// reached. `None` for the root of the v2 tree, for directories outside the mounted subtree, on v2 before kernel 5.2,
/// and for a cgroup that cannot be read.
pub(super) fn hits(version: Version, dir: &Path) -> Option<u64> {
    match version {
        Version::V2 => keyed(&read(dir, "memory.events.local").ok()??, "oom"),
        Version::V1 => {
            let (failures, full) = reached(dir).ok()??;
            // A v1 cgroup that was ever full counts as one hit more.
            Some(failures.saturating_add(u64::from(full)))
        }
    }
}

/// How often a v1 cgroup could not charge memory because of its limits, and whether it was ever full.
///
/// If there is a limit on memory and swap together, as runtimes set it, that limit is charged first and counts the
/// failures; but since kernel 6.15 its count stays at 0 (the counter of `memsw` is not tracked). Therefore the
/// high-water marks are read too: an OOM kill means that less than [`MAX_OOM_ALLOCATION`] was free below the limit.
pub(super) fn reached(dir: &Path) -> Result<Option<(u64, bool)>, Error> {
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
                full |= limit_v1(limit).is_some_and(|limit| peak.saturating_add(MAX_OOM_ALLOCATION) > limit);
            }
            // The kernel does not account for swap.
            _ if n > 0 => {}
            _ => return Ok(None),
        }
    }
    Ok(Some((failures, full)))
}
