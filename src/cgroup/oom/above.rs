//! The limits above a container, of which one may be the reason of a kill in it.

use std::path::PathBuf;

use super::hits::hits;
use super::limit::limit;
use super::limit_owner::LimitOwner;
use crate::cgroup::layout::Version;
use crate::cgroup::paths::Paths;

/// How often the limits above a container had been hit at one moment, from the nearest level upwards. Any increase at
/// the end happened in between. Without this, an earlier hit of a parent's limit would be taken for the reason of each
/// later kill.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Above {
    levels: Vec<(PathBuf, u64)>,
    /// Above the last level there is only the root of the hierarchy, which has no limit.
    pub(super) to_the_root: bool,
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

    /// Whether these are all limits above the container of these directories.
    pub(crate) fn is_of(&self, paths: &Paths) -> bool {
        let above = paths.controller(&paths.memory).and_then(|(_, dir)| dir.parent());
        let nearest = self.levels.first().map(|(dir, _)| dir.as_path());
        self.to_the_root && nearest.is_some() && nearest == above
    }

    /// Whose limit was hit since the note, if it was not the container's own.
    pub(super) fn blame(&self, version: Version) -> LimitOwner {
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
