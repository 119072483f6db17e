//! One process at a time changes the record of a kept container: makes it, starts a run, writes the end of a run, or
//! removes it. For this there is a file lock per container, and one per name for the makers of containers.
//!
//! containerd updates a record without a condition, so without the lock a process that was slow could write the end of
//! one run over the start of the next. The kernel releases a lock when its process ends, however it ends. The files lie
//! beside the directories of the containers' streams, and do not survive a reboot. Processes that use the same
//! containerd namespace with different directories do not see each other's locks.

use std::fmt::Display;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::Deps;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use crate::pauses::Pauses;
use crate::{ContainerId, ContainerName, Context};

/// No container has this name: names begin with a letter or a digit.
const DIR: &str = ".turns";
/// The first pause between two tries to take a lock, and the longest. Waiting without tries would block a thread.
const AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// The right to change the record of one kept container; dropping it gives it back.
#[derive(Debug)]
#[must_use = "it is given back when it is dropped"]
pub(super) struct Turn {
    _file: File,
    path: PathBuf,
    /// Whether the last one who had the turn was killed while it had it.
    pub(super) was_left: bool,
}

impl Turn {
    /// Waits for the turn to change a container.
    ///
    /// # Errors
    /// [`Kind::Timeout`] or [`Kind::Cancelled`] if `ctx` ends while another process has it.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn take(deps: &Deps, ctx: &Context, id: &ContainerId) -> Result<Self> {
        Self::take_file(deps, ctx, id, id.as_str()).await
    }

    /// Waits for the turn to make a container of this name.
    ///
    /// # Errors
    /// As for [`Self::take`].
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn take_name(deps: &Deps, ctx: &Context, name: &ContainerName) -> Result<Self> {
        // No id has this character.
        Self::take_file(deps, ctx, name, &format!("name={name}")).await
    }

    /// Takes the turn to change a container; `None` if another process has it.
    pub(super) fn take_if_free(deps: &Deps, id: &ContainerId) -> Result<Option<Self>> {
        Self::take_file_if_free(deps, id, id.as_str())
    }

    /// Removes the lock files of killed processes, but for those of containers that exist: whoever changes one next is told
    /// by its file that the last change was cut off.
    pub(super) fn remove_left(deps: &Deps, exists: impl Fn(&str) -> bool) {
        let dir = deps.config.run_dir.join(deps.config.namespace.as_str()).join(DIR);
        let names = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        for name in names.filter(|name| !exists(name)) {
            // One that a living process has is that process's to remove.
            drop(Self::take_file_if_free(deps, &name, &name));
        }
    }

    async fn take_file(deps: &Deps, ctx: &Context, id: impl Display, file: &str) -> Result<Self> {
        until_free(ctx, &id, || Self::take_file_if_free(deps, &id, file)).await
    }

    fn take_file_if_free(deps: &Deps, id: impl Display, file: &str) -> Result<Option<Self>> {
        let dir = deps.config.run_dir.join(deps.config.namespace.as_str()).join(DIR);
        let path = dir.join(file);
        // Where no directory can be made, there is no lock to wait for.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        let taken = made.and_then(|()| attempt(&path));
        let taken = taken.map_err(|error| {
            let why = format!("its lock {} cannot be taken: {error}", path.display());
            Error::new(Step::Turn, id, Kind::Internal, io::Error::new(error.kind(), why))
        })?;
        Ok(taken.map(|(file, was_left)| Self {
            _file: file,
            path,
            was_left,
        }))
    }
}

/// Tries to take a lock until it is free.
///
/// # Errors
/// [`Kind::Timeout`] or [`Kind::Cancelled`] if `ctx` ends first; the error of a try.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn until_free<T>(
    ctx: &Context,
    id: impl Display,
    take: impl Fn() -> Result<Option<T>>,
) -> Result<T> {
    let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
    loop {
        if let Some(taken) = take()? {
            return Ok(taken);
        }
        ctx.run(pauses.wait()).await.at(Step::Turn, &id)?;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // While the lock is held: a process that has opened this file, and gets the lock next, sees that it is gone.
        drop(std::fs::remove_file(&self.path));
        // Fails if another container's lock is in use.
        drop(self.path.parent().map(std::fs::remove_dir));
    }
}

/// Locks the file; `None` if another process has the lock, or has removed the file or its directory. Returns, too,
/// whether a process had the lock that has not removed the file: such a file has a byte.
fn attempt(path: &Path) -> io::Result<Option<(File, bool)>> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(false).mode(0o600);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let (locked, there) = (file.metadata()?, std::fs::metadata(path));
    if !there.is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino())) {
        return Ok(None);
    }
    let was_left = locked.len() > 0;
    if !was_left && let Err(error) = file.write_all(b"1") {
        tracing::debug!(%error, path = %path.display(), "a kill of this process could not be told later");
    }
    Ok(Some((file, was_left)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_one_holders_until_it_is_given_back_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c1");
        let take = || {
            attempt(&path).unwrap().map(|(file, was_left)| Turn {
                _file: file,
                path: path.clone(),
                was_left,
            })
        };
        let first = take().unwrap();
        assert!(!first.was_left && take().is_none());
        drop(first);
        assert!(!dir.path().exists());
        assert!(take().is_none());
        std::fs::create_dir(dir.path()).unwrap();
        drop(take().unwrap());
        assert!(!dir.path().exists());
    }

    #[test]
    fn a_turn_that_was_never_given_back_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c1");
        // As the kernel leaves it of a killed process: unlocked, and not removed.
        drop(attempt(&path).unwrap().unwrap());
        let (_file, was_left) = attempt(&path).unwrap().unwrap();
        assert!(was_left);
    }

    #[test]
    fn the_lock_of_a_removed_file_is_nobodys_turn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c1");
        let held = attempt(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        // Another file of the same name: the lock on the old one does not count for it.
        let next = attempt(&path).unwrap().unwrap();
        assert!(attempt(&path).unwrap().is_none());
        drop((held, next));
    }
}
