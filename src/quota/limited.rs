//! Limits directories: gives them a project of their own, and sets its limit.
//!
//! The documentation of the `quota` module explains why a claim needs no lock.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::Dir;

use super::choice;
use super::error::Error;
use super::file_system::FileSystem;

/// The highest limit in bytes: ext4's quota files contain signed numbers.
pub(crate) const MOST: u64 = i64::MAX.unsigned_abs();

/// Limits new, empty directories of one file system to `bytes` together, including everything created in them later.
/// `bytes` is rounded up to whole kilobytes. The directories share a project, because XFS moves files only within one
/// project: a rename across projects fails with `EXDEV`. Must be called before anything is mounted on top of them or
/// written into them.
///
/// A failure may leave the directories with a project, and with a limit, which [`release`] removes.
///
/// # Errors
/// The errors of [`check`](super::check), and [`Error::NotNew`] for a directory that is not empty.
pub(crate) fn limit(dirs: [&Path; 2], bytes: u64) -> Result<(), Error> {
    let [first, second] = dirs;
    let dirs = [FileSystem::of(first)?, FileSystem::of(second)?];
    let [first, _] = &dirs;
    first.enforces()?;
    for dir in &dirs {
        is_new(dir)?;
    }
    let inode = std::fs::metadata(first.path())
        .map_err(|cause| Error::io("inspect", first.path(), cause))?
        .ino();
    let id = claim(&dirs, choice::candidates(inode))?;
    first.set_limit(id, bytes)
}

/// Removes the limit of a directory, if [`limit`] set one. Must be called after the last write, but while the directory
/// exists: the directory keeps other claims from using its number. Succeeds if the directory does not exist.
///
/// # Errors
/// The errors of the kernel.
pub(crate) fn release(dir: &Path) -> Result<(), Error> {
    let dir = match FileSystem::of(dir) {
        Err(Error::OutOfSight { .. }) => return Ok(()),
        other => other?,
    };
    match dir.project()? {
        Some(id) if choice::is_ours(id) => dir.drop_limit(id),
        _ => Ok(()),
    }
}

/// Gives the directories a project that no other files have, and returns it.
///
/// Several claims may run at the same time, in other processes too. Each writes its number first and counts the inodes
/// afterwards, so a claim that met another one finds too many and tries the next number. It does no harm if both do.
pub(super) fn claim(dirs: &[FileSystem; 2], candidates: impl Iterator<Item = u32>) -> Result<u32, Error> {
    let [first, _] = dirs;
    for id in candidates {
        if first.usage(id)?.inodes > 0 {
            continue;
        }
        for dir in dirs {
            dir.set_project(id)?;
        }
        if first.usage(id)?.inodes == dirs.len() as u64 {
            return Ok(id);
        }
    }
    Err(Error::NoneFree { mount: first.mount() })
}

/// Succeeds if the directory is empty. Existing files have another project, so they would not be counted; and an
/// overlay that is mounted has made a directory in its work directory.
fn is_new(dir: &FileSystem) -> Result<(), Error> {
    let read = |cause: rustix::io::Errno| Error::io("read", dir.path(), cause.into());
    for entry in Dir::read_from(dir.dir()).map_err(read)? {
        if !matches!(entry.map_err(read)?.file_name().to_bytes(), b"." | b"..") {
            return Err(Error::NotNew {
                path: dir.path().to_owned(),
            });
        }
    }
    Ok(())
}
