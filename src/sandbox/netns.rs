//! Network namespaces without a process: each is made by a thread that then ends, and is held by a mount
//! (namespaces(7)).
//!
//! The thread shares its other namespaces with this process. So the mount is visible to every process that shares the
//! mount namespace, or that gets its mounts: containerd's shims and the plugins. The mount outlives this process; it
//! lasts until a reboot, or until [`remove`].

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::Error;
use super::netlink;

/// Identifies the namespace that is pinned at a path. The kernel does not reuse the numbers while the namespace exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    dev: u64,
    ino: u64,
}

impl Mark {
    pub(super) fn numbers(self) -> (u64, u64) {
        (self.dev, self.ino)
    }
}

/// Makes a namespace with nothing but its loopback, which is up, and pins it at `path`. Fails if `path` exists.
///
/// Blocks for about a millisecond, while the kernel makes a network stack.
pub(super) fn create(path: &Path) -> Result<Mark, Error> {
    pin(path, |target| {
        // Only this thread is ever in the namespace, and it ends afterwards; the other threads of the process are not
        // affected.
        let target = target.to_owned();
        let made = std::thread::Builder::new()
            .name("fnctr-netns".to_owned())
            .spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                netlink::loopback_up()?;
                allow_the_unprivileged();
                bind(Path::new("/proc/thread-self/ns/net"), &target)
            })?;
        made.join()
            .map_err(|_| io::Error::other("the thread that makes it panicked"))?
    })
}

/// Pins a namespace that is open already.
pub(super) fn pin_open(path: &Path, namespace: &File) -> Result<Mark, Error> {
    use std::os::fd::AsRawFd as _;

    let source = PathBuf::from(format!("/proc/self/fd/{}", namespace.as_raw_fd()));
    pin(path, |target| bind(&source, target))
}

fn pin(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<Mark, Error> {
    let failed = |source| Error::Netns {
        path: path.to_owned(),
        what: "made",
        source,
    };
    if let Some(dir) = path.parent() {
        private_dir(dir).map_err(failed)?;
    }
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path)
        .map_err(failed)?;
    let made = make(path).and_then(|()| {
        mark(path)?.ok_or_else(|| io::Error::other("nothing is mounted there after the pin was made"))
    });
    made.map_err(|source| {
        drop(remove(path));
        failed(source)
    })
}

/// Lets unprivileged processes use any port, and ping without a raw socket, as Docker does: both are harmless in a
/// separate namespace. Called on a thread in the namespace, because `/proc/sys/net` shows the settings of the reader's
/// namespace. Best effort: the directory may be read-only.
fn allow_the_unprivileged() {
    let sysctls = [
        ("ip_unprivileged_port_start", "0"),
        ("ping_group_range", "0 2147483647"),
    ];
    for (name, value) in sysctls {
        if let Err(error) = fs::write(format!("/proc/sys/net/ipv4/{name}"), value) {
            tracing::debug!(name, %error, "a new network namespace keeps the kernel's default");
        }
    }
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

fn private_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    fs::DirBuilder::new().recursive(true).mode(0o711).create(dir)
}

/// Returns the namespace that is pinned at the path; `None` if there is none.
fn mark(path: &Path) -> io::Result<Option<Mark>> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if statfs(path)?.filesystem_type() != NSFS_MAGIC {
        return Ok(None);
    }
    Ok(Some(Mark {
        dev: found.dev(),
        ino: found.ino(),
    }))
}

/// Whether the expected namespace is still pinned at the path. Takes two system calls.
pub(super) fn is_there(path: &Path, expected: Mark) -> bool {
    matches!(mark(path), Ok(Some(found)) if found == expected)
}

/// Whether any namespace is pinned at the path.
pub(super) fn is_pinned(path: &Path) -> bool {
    matches!(mark(path), Ok(Some(_)))
}

/// Removes the pin. The kernel removes the namespace once no process is in it. Succeeds if nothing is at the path.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Netns {
        path: path.to_owned(),
        what: "removed",
        source,
    };
    // Repeated until nothing is mounted, in case two processes pinned the namespace.
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Not a mount, or the path does not exist.
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => break,
            Err(error) => return Err(failed(error.into())),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    #[test]
    fn a_namespace_lives_by_its_pin_and_has_a_loopback_that_is_up() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/one");
        let made = create(&path).unwrap();
        assert!(is_there(&path, made) && is_pinned(&path));
        let own = fs::metadata("/proc/self/ns/net").unwrap();
        assert_ne!((own.dev(), own.ino()), (made.dev, made.ino));
        let inside = path.clone();
        let links = std::thread::spawn(move || {
            nix::sched::setns(File::open(inside).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default()
        });
        // The loopback has an address only while it is up.
        let links = links.join().unwrap();
        assert!(links.contains(" lo"), "{links:?}");
        assert!(
            matches!(create(&path), Err(Error::Netns { what: "made", .. })),
            "it is taken"
        );
        assert!(is_there(&path, made), "and stays");
        remove(&path).unwrap();
        assert!(!is_pinned(&path) && !path.exists());
        remove(&path).unwrap();
    }

    #[test]
    fn a_file_is_no_namespace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain");
        fs::write(&path, "").unwrap();
        assert!(!is_pinned(&path));
        assert!(!is_pinned(&dir.path().join("none")));
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
