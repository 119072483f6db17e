//! Limiting directories: a project of their own, and its limit.
//!
//! See the room's head for why a claim needs no lock.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::Dir;

use super::choice;
use super::error::Error;
use super::file_system::FileSystem;

/// The most bytes that a limit can say: ext4's quota files keep signed numbers.
pub(crate) const MOST: u64 = i64::MAX.unsigned_abs();

/// Limits new, empty directories of one file system to `bytes` together, with all that will be in them, rounded up to
/// whole kilobytes. They share a project, since XFS moves files between directories only within one: a rename across
/// projects fails with `EXDEV`. To be called before anything is mounted on top of them or written into them.
///
/// What fails half-way leaves the directories with a project and at most a limit: [`release`] undoes that.
///
/// # Errors
/// As [`check`](super::check); and [`Error::NotNew`] for a directory that is not empty.
pub(crate) fn limit(dirs: [&Path; 2], bytes: u64) -> Result<(), Error> {
    let [first, second] = dirs;
    let dirs = [FileSystem::of(first)?, FileSystem::of(second)?];
    let [first, _] = &dirs;
    first.enforces()?;
    for dir in &dirs {
        is_new(dir)?;
    }
    let inode = std::fs::metadata(first.path())
        .map_err(|cause| Error::io("look at", first.path(), cause))?
        .ino();
    let id = claim(&dirs, choice::candidates(inode))?;
    first.set_limit(id, bytes)
}

/// Takes the limit of a directory away, if [`limit`] set one. To be called while the directory is there and nobody writes
/// into it any more: it is what keeps others from the number. One that is gone has nothing to be taken.
///
/// # Errors
/// Those of the kernel.
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

/// Gives the directories a project that nobody else's files bear, and returns it.
///
/// Several may look for one at the same time, in other processes too. Each writes first and counts afterwards, so the
/// count of one that met another is too high, and it goes on; that the other may do so too is no harm.
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

/// What is in a directory already bears another project, so it would not be counted; and an overlay that is mounted has
/// made a directory in its work directory.
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
