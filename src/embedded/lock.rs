//! Advisory file locks, with which independent processes agree on which of them starts and stops containerd.
//!
//! The kernel releases a lock when its process ends, however it ends. The files stay, because removing a lock file
//! would race with the processes that use it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Error, private};
use crate::Context;
use crate::file_lock::FileLock;

/// How often an attempt is repeated while the lock is taken. Waiting for a lock without attempts would block a thread.
const AGAIN: Duration = Duration::from_millis(10);

/// Waits for the exclusive lock.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn exclusive(ctx: &Context, path: &Path) -> Result<FileLock, Error> {
    take(ctx, path, FileLock::exclusive).await
}

/// Waits for a lock that other holders may share.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn shared(ctx: &Context, path: &Path) -> Result<FileLock, Error> {
    take(ctx, path, FileLock::shared).await
}

async fn take(
    ctx: &Context,
    path: &Path,
    attempt: impl Fn(File) -> io::Result<Option<FileLock>>,
) -> Result<FileLock, Error> {
    loop {
        let attempt = attempt(open(path)?).map_err(|cause| Error::at(path, "lock", cause))?;
        if let Some(lock) = attempt {
            return Ok(lock);
        }
        ctx.run(tokio::time::sleep(AGAIN))
            .await
            .map_err(Error::interrupted("another process starts or stops containerd"))?;
    }
}

fn open(path: &Path) -> Result<File, Error> {
    match private::file(path, OpenOptions::new().create(true).write(true).truncate(false)) {
        // Locking needs no write permission, so an existing file can be locked on a disk that became read-only.
        Err(Error::File { cause, .. }) if cause.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            private::file(path, OpenOptions::new().read(true))
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_other_user_can_open_a_lock_and_so_hold_it() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        // Earlier versions left lock files with this mode.
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        for _ in 0..2 {
            let _held = exclusive(&Context::new(), &path).await.unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn waiting_for_a_taken_lock_ends_with_the_context() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _held = exclusive(&Context::new(), &path).await.unwrap();
        let error = shared(&Context::timeout(Duration::from_millis(30)), &path)
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
        drop(exclusive(&ctx, &path).await.unwrap());
        mounted(MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY).unwrap();
        let held = exclusive(&ctx, &path).await;
        let other = shared(&Context::timeout(Duration::from_millis(30)), &path).await;
        let missing = exclusive(&ctx, &dir.path().join("missing")).await;
        umount2(dir.path(), MntFlags::MNT_DETACH).unwrap();
        drop(held.unwrap());
        assert!(matches!(other, Err(Error::Interrupted { .. })), "{other:?}");
        assert!(matches!(missing, Err(Error::File { .. })), "{missing:?}");
    }
}
