//! Locks of whole files (flock(2)). The kernel releases a lock when its process ends, however it ends.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A locked file; dropping it releases the lock.
///
/// Closing the file would not be enough: a child that another thread has just forked has a copy of the descriptor until
/// its exec, and a lock lasts as long as any copy. [`Flock`] releases it explicitly.
#[derive(Debug)]
#[must_use = "a lock is released when it is dropped"]
pub(crate) struct FileLock(Flock<File>);

impl FileLock {
    /// Locks the file for one holder; `None` if it is locked.
    pub(crate) fn exclusive(file: File) -> io::Result<Option<Self>> {
        Self::attempt(file, FlockArg::LockExclusiveNonblock)
    }

    /// Locks the file for holders that share it; `None` if it is locked for one.
    pub(crate) fn shared(file: File) -> io::Result<Option<Self>> {
        Self::attempt(file, FlockArg::LockSharedNonblock)
    }

    fn attempt(file: File, how: FlockArg) -> io::Result<Option<Self>> {
        match Flock::lock(file, how) {
            Ok(lock) => Ok(Some(Self(lock))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// Makes a shared lock exclusive and returns true, if there is no other holder. Otherwise the lock is lost.
    pub(crate) fn become_exclusive(&self) -> io::Result<bool> {
        match self.0.relock(FlockArg::LockExclusiveNonblock) {
            Ok(()) => Ok(true),
            Err(Errno::EWOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_though_a_copy_of_the_descriptor_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::create(dir.path().join("lock")).unwrap();
        let held = FileLock::exclusive(open()).unwrap().unwrap();
        assert!(FileLock::shared(open()).unwrap().is_none());
        // Like the copy that a child has between its fork and its exec.
        let copy = held.0.try_clone().unwrap();
        drop(held);
        assert!(FileLock::exclusive(open()).unwrap().is_some());
        drop(copy);
    }

    #[test]
    fn the_last_of_several_holders_can_be_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::create(dir.path().join("lock")).unwrap();
        let [one, two] = [(); 2].map(|()| FileLock::shared(open()).unwrap().unwrap());
        assert!(!one.become_exclusive().unwrap());
        drop(one);
        assert!(two.become_exclusive().unwrap());
        assert!(FileLock::shared(open()).unwrap().is_none());
    }
}
