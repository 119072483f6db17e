//! The root of a container, and what is looked up beneath it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::beneath::open_in;
use super::error::{Error, Result};
use super::mount::{self, Layers};
use super::path::ContainerPath;

/// A container's root.
#[derive(Debug)]
pub(crate) struct Root {
    dir: OwnedFd,
    /// The mount namespace that the root is in. With this descriptor, its mounts outlive the last process in it.
    _namespace: Option<OwnedFd>,
}

impl Root {
    /// The root of this process.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn own() -> Result<Self> {
        Self::at(Path::new("/"))
    }

    /// The root of a process, with the mounts that the process sees. The caller makes sure that the pid is still that of
    /// the process.
    ///
    /// # Errors
    /// If the process has ended.
    pub(crate) fn of_process(pid: u32) -> Result<Self> {
        let gone = |errno| match errno {
            Errno::NOENT | Errno::SRCH => Error::Ended,
            errno => Error::of("/", errno),
        };
        // Without it, the kernel would take the mounts away with the last process, and show what is beneath them.
        let namespace = format!("/proc/{pid}/ns/mnt");
        let namespace = rustix::fs::open(namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let namespace = namespace.map_err(gone)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty());
        Ok(Self {
            dir: dir.map_err(gone)?,
            _namespace: Some(namespace),
        })
    }

    /// A directory beneath the root, as a root of its own: what a link in it leads to is beneath it, too.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn of_directory(&self, path: &ContainerPath) -> Result<Self> {
        let dir = self.open(path.as_path(), OFlags::PATH | OFlags::DIRECTORY);
        Ok(Self {
            dir: dir.map_err(|errno| Error::of(path.bytes(), errno))?,
            _namespace: None,
        })
    }

    /// A directory of the host, whose path is trusted.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn at(dir: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(dir, flags, Mode::empty());
        Ok(Self {
            dir: opened.map_err(|errno| Error::of(dir.as_os_str().as_bytes(), errno))?,
            _namespace: None,
        })
    }

    /// The root that layers and mounts make.
    ///
    /// # Errors
    /// If they cannot be mounted.
    pub(crate) fn of_layers(layers: Layers) -> Result<Self> {
        let (dir, namespace) = mount::assemble(layers)?;
        Ok(Self {
            dir,
            _namespace: Some(namespace),
        })
    }

    #[cfg(test)]
    pub(super) fn of_dir(dir: &Path) -> Self {
        Self::at(dir).unwrap()
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Opens a path beneath the root; links are followed there, unless `flags` say otherwise of the last name.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        open_in(self.as_fd(), path, flags)
    }

    /// The directory of a path's last name, and that name: `.` for a path that means what is behind it.
    pub(super) fn place_of<'a>(&self, path: &'a ContainerPath) -> Result<(OwnedFd, &'a OsStr)> {
        let (dir, name) = match path.as_path().file_name() {
            Some(name) if !path.is_followed() => {
                (path.as_path().parent().unwrap_or_else(|| Path::new("/")), name)
            }
            _ => (path.as_path(), OsStr::new(".")),
        };
        let opened = self.open(dir, OFlags::PATH | OFlags::DIRECTORY);
        let opened = opened.map_err(|errno| Error::of(path.bytes(), errno))?;
        Ok((opened, name))
    }

    /// The path in the container that a descriptor leads to.
    pub(super) fn path_of(&self, opened: BorrowedFd<'_>) -> Option<PathBuf> {
        let (root, path) = (real_path(self.as_fd())?, real_path(opened)?);
        Some(Path::new("/").join(path.strip_prefix(root).ok()?))
    }
}

/// The path of a descriptor in the mount namespace that it is from.
fn real_path(opened: BorrowedFd<'_>) -> Option<PathBuf> {
    use std::os::fd::AsRawFd as _;

    std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()
}
