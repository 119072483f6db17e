//! The identity of a cgroup, beyond its name.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::paths::Paths;

/// The one cgroup that a container was created in. The kernel never uses its inode number again (cgroup ids are not
/// reused), so a directory of the same name that was created later is recognized as a different cgroup.
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
