//! The memory limit of a cgroup.

use std::path::Path;

use crate::cgroup::files::{read, read_number};
use crate::cgroup::layout::Version;

/// A v1 limit above this value means that there is none.
const UNLIMITED: u64 = u64::MAX / 4;

/// The limit of an existing cgroup.
pub(super) fn limit(version: Version, dir: &Path) -> Option<u64> {
    match version {
        Version::V2 => limit_v2(&read(dir, "memory.max").ok()??),
        Version::V1 => limit_v1(read_number(dir, "memory.limit_in_bytes").ok()??),
    }
}

/// The limit of an existing cgroup of the v2 tree.
pub(super) fn limit_of(dir: &Path) -> Option<u64> {
    limit(Version::V2, dir)
}

/// `memory.max`: a number or `max`.
pub(in crate::cgroup) fn limit_v2(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `memory.limit_in_bytes`: the largest multiple of a page means no limit.
pub(in crate::cgroup) fn limit_v1(bytes: u64) -> Option<u64> {
    (bytes < UNLIMITED).then_some(bytes)
}
