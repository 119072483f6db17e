//! Advisory file locks, with which independent processes agree on which of them starts and stops containerd.
//!
//! The kernel releases a lock when its process ends, however it ends. The files stay, because removing a lock file
//! would race with the processes that use it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Error, private};
use crate::Context;

/// How often an attempt is repeated while the lock is taken. Waiting for a lock without attempts would block a thread.
const AGAIN: Duration = Duration::from_millis(10);

/// A held lock; dropping it releases it.
#[derive(Debug)]
#[must_use = "a lock is released when it is dropped"]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for the exclusive lock.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn exclusive(ctx: &Context, path: &Path) -> Result<Self, Error> {
        Self::take(ctx, path, FlockOperation::NonBlockingLockExclusive).await
    }

    /// Waits for a lock that other holders may share.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn shared(ctx: &Context, path: &Path) -> Result<Self, Error> {
        Self::take(ctx, path, FlockOperation::NonBlockingLockShared).await
    }

    async fn take(ctx: &Context, path: &Path, how: FlockOperation) -> Result<Self, Error> {
        let file = match private::file(path, OpenOptions::new().create(true).write(true).truncate(false)) {
            // Locking needs no write permission, so an existing file can be locked on a disk that became read-only.
            Err(Error::File { cause, .. }) if cause.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                private::file(path, OpenOptions::new().read(true))?
            }
            opened => opened?,
        };
        let lock = Self {
            file,
            path: path.to_owned(),
        };
        while !lock.attempt(how)? {
            ctx.run(tokio::time::sleep(AGAIN))
                .await
                .map_err(Error::interrupted("another process starts or stops containerd"))?;
        }
        Ok(lock)
    }

    /// Makes the shared lock exclusive and returns true, if there is no other holder. Otherwise the lock is lost.
    pub(super) fn become_exclusive(&self) -> Result<bool, Error> {
        self.attempt(FlockOperation::NonBlockingLockExclusive)
    }

    fn attempt(&self, how: FlockOperation) -> Result<bool, Error> {
        loop {
            return match flock(&self.file, how) {
                Ok(()) => Ok(true),
                Err(Errno::WOULDBLOCK) => Ok(false),
                Err(Errno::INTR) => continue,
                Err(cause) => Err(Error::at(&self.path, "lock", cause.into())),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_holder_of_a_shared_lock_can_make_it_exclusive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let ctx = Context::new();
        let first = Lock::shared(&ctx, &path).await.unwrap();
        let second = Lock::shared(&ctx, &path).await.unwrap();
        assert!(!first.become_exclusive().unwrap());
        drop(first);
        assert!(second.become_exclusive().unwrap());
    }

    #[tokio::test]
    async fn no_other_user_can_open_a_lock_and_so_hold_it() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        // Earlier versions left lock files with this mode.
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        for _ in 0..2 {
            let _held = Lock::exclusive(&Context::new(), &path).await.unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn waiting_for_a_taken_lock_ends_with_the_context() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _held = Lock::exclusive(&Context::new(), &path).await.unwrap();
        let error = Lock::shared(&Context::timeout(Duration::from_millis(30)), &path)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_there_is_locked_on_a_disk_that_became_read_only() {
        use nix::mount::{MntFlags, MsFlags, mount, umount2};

        if !rustix::process::geteuid().is_root() {
            return; // Only root can mount.
        }
        let dir = tempfile::tempdir().unwrap();
        let mounted = |flags| mount(Some("none"), dir.path(), Some("tmpfs"), flags, None::<&str>);
        if mounted(MsFlags::empty()).is_err() {
            return; // Even root cannot mount everywhere.
        }
        let path = dir.path().join("lock");
        let ctx = Context::timeout(Duration::from_secs(10));
        drop(Lock::exclusive(&ctx, &path).await.unwrap());
        mounted(MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY).unwrap();
        let held = Lock::exclusive(&ctx, &path).await;
        let other = Lock::shared(&Context::timeout(Duration::from_millis(30)), &path).await;
        let missing = Lock::exclusive(&ctx, &dir.path().join("missing")).await;
        umount2(dir.path(), MntFlags::MNT_DETACH).unwrap();
        drop(held.unwrap());
        assert!(matches!(other, Err(Error::Interrupted { .. })), "{other:?}");
        assert!(matches!(missing, Err(Error::File { .. })), "{missing:?}");
    }
}
