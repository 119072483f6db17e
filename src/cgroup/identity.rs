//! Which cgroup of a name it is.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::paths::Paths;

/// The very cgroup that a container was made in. Its inode number is never used again (cgroup ids are not), so a directory
/// of the same name that a later life made is told apart.
#[derive(Debug, Clone)]
pub(crate) struct CgroupIdentity {
    dir: PathBuf,
    inode: u64,
}

impl CgroupIdentity {
    pub(crate) fn of(paths: &Paths) -> Option<Self> {
        let dir = paths.dirs().next()?.to_owned();
        let inode = std::fs::metadata(&dir).ok()?.ino();
        Some(Self { dir, inode })
    }

    pub(crate) fn is_there(&self) -> bool {
        std::fs::metadata(&self.dir).is_ok_and(|now| now.ino() == self.inode)
    }
}
