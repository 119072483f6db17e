//! One process at a time removes a container that is not kept. Its owner removes it at its end, while another process
//! may be removing it on request: the steps go by the container's id, so the slower of the two could reach a later
//! container of the same id.
//!
//! A function's life has to be quick, so this costs no file of its own, as the [`Turn`](super::turn::Turn) of a kept
//! container does: the lock is one byte of a file that all containers share, at a place that follows from the id. Two
//! ids with the same place only wait for each other. The kernel releases the lock when its process ends, however it
//! ends. The locks are those of open files (F_OFD_SETLK of fcntl(2)), so two tasks of one process exclude each other.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use sha2::{Digest as _, Sha256};

use super::Deps;
use super::error::{Error, Kind, Result, Step};
use super::turn::until_free;
use crate::{ContainerId, Context};

/// No container has this name: names begin with a letter or a digit.
const FILE: &str = ".removals";

/// The right to remove a container; dropping it gives it back.
#[derive(Debug)]
#[must_use = "it is given back when it is dropped"]
pub(super) struct RemovalTurn {
    file: File,
    place: i64,
}

impl Drop for RemovalTurn {
    fn drop(&mut self) {
        // Closing the file would not be enough, as for a [`FileLock`](crate::file_lock::FileLock).
        let unlock = of_byte(self.place, libc::F_UNLCK);
        if let Err(error) = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&unlock)) {
            tracing::debug!(%error, "the right to remove a container ends when its file is closed everywhere");
        }
    }
}

impl RemovalTurn {
    /// Waits for the right to remove a container.
    ///
    /// # Errors
    /// [`Kind::Timeout`] or [`Kind::Cancelled`] if `ctx` ends while another process has it.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn take(deps: &Deps, ctx: &Context, id: &ContainerId) -> Result<Self> {
        let path = deps
            .config
            .run_dir
            .join(deps.config.namespace.as_str())
            .join(FILE);
        let take = || {
            attempt(&path, place_of(id)).map_err(|error| {
                let why = format!("its lock in {} cannot be taken: {error}", path.display());
                Error::new(Step::Turn, id, Kind::Internal, io::Error::new(error.kind(), why))
            })
        };
        until_free(ctx, id, take).await
    }
}

/// The byte of the file that stands for a container. The file stays empty: a lock may lie behind the end of a file.
fn place_of(id: &ContainerId) -> i64 {
    let digest = Sha256::digest(id.as_str());
    let begin = digest.iter().take(size_of::<u32>());
    begin.fold(0, |place, byte| (place << u8::BITS) | i64::from(*byte))
}

/// Locks a byte of the file; `None` if it is locked.
fn attempt(path: &Path, place: i64) -> io::Result<Option<RemovalTurn>> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(false).mode(0o600);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), super::host::make_private)?;
            options.open(path)?
        }
        opened => opened?,
    };
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&of_byte(place, libc::F_WRLCK))) {
        Ok(_) => Ok(Some(RemovalTurn { file, place })),
        Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the constants are small; their types differ"
)]
const fn of_byte(place: i64, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: place,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_removed_by_one_at_a_time_and_others_are_not_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ns").join(FILE);
        let [one, two] = ["c1", "c2"].map(|id| place_of(&ContainerId::new(id).unwrap()));
        assert_ne!(one, two);
        let first = attempt(&path, one).unwrap().unwrap();
        // Another open file, as in another process.
        assert!(attempt(&path, one).unwrap().is_none());
        assert!(attempt(&path, two).unwrap().is_some());
        // Like the copy that a child has between its fork and its exec.
        let copy = first.file.try_clone().unwrap();
        drop(first);
        assert!(attempt(&path, one).unwrap().is_some());
        drop(copy);
    }
}
