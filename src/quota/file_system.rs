//! The file system of a directory: which one it is, and whether it enforces the limits of projects.
//!
//! Mount options show only what was requested, so the kernel is queried for what it enforces.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{Mode, OFlags};

use super::error::Error;
use super::mount::{self, Mount};
use crate::sys::{self, State, Target, Usage};

/// The project of files that were not given one. It always exists, so it can always be queried.
const DEFAULT_PROJECT: u32 = 0;

/// Checks whether directories on the file system of `dir` can be limited, and by this process. Makes nothing.
///
/// # Errors
/// Fails if they cannot be limited; [`Error::is_unsupported`] is then true, and the error names what is missing.
pub(crate) fn check(dir: &Path) -> Result<(), Error> {
    let file_system = FileSystem::of(dir)?;
    file_system.enforces()?;
    // Reading a project's usage takes the same privilege as setting its limit.
    file_system.usage(DEFAULT_PROJECT).map(drop)
}

/// An open directory, and with it its file system.
#[derive(Debug)]
pub(super) struct FileSystem {
    dir: OwnedFd,
    path: PathBuf,
    /// The block device, for a kernel that cannot identify the file system by an open directory.
    device: Option<CString>,
}

impl FileSystem {
    /// Opens a directory.
    ///
    /// # Errors
    /// [`Error::OutOfSight`] if it does not exist.
    pub(super) fn of(dir: &Path) -> Result<Self, Error> {
        let fd = open(dir)?;
        let device = if sys::knows_quotactl_fd() {
            None
        } else {
            device(&fd, dir)?
        };
        Ok(Self {
            dir: fd,
            path: dir.to_owned(),
            device,
        })
    }

    /// Opens a directory, but identifies its file system by the block device even if the kernel does not need it.
    #[cfg(test)]
    pub(super) fn by_device(dir: &Path) -> Result<Self, Error> {
        let this = Self::of(dir)?;
        let device = device(&this.dir, dir)?;
        Ok(Self { device, ..this })
    }

    /// Succeeds if the kernel enforces the limits of projects here.
    pub(super) fn enforces(&self) -> Result<(), Error> {
        match sys::state(&self.target()) {
            Ok(State { enforces: true, .. }) => Ok(()),
            Ok(State { counts: true, .. }) => Err(Error::NotEnforced { mount: self.mount() }),
            Ok(_) => Err(Error::Without { mount: self.mount() }),
            Err(cause) if is_unsupported_errno(&cause) => Err(Error::Without { mount: self.mount() }),
            Err(cause) => Err(self.failed("read the state of quotas of", cause)),
        }
    }

    /// Returns the usage of a project.
    pub(super) fn usage(&self, id: u32) -> Result<Usage, Error> {
        let usage = sys::usage(&self.target(), id);
        usage.map_err(|cause| self.failed("read the quota of a project of", cause))
    }

    /// Sets the maximum number of bytes of a project; 0 removes its limit.
    pub(super) fn set_limit(&self, id: u32, bytes: u64) -> Result<(), Error> {
        let set = sys::set_limit(&self.target(), id, bytes);
        set.map_err(|cause| self.failed("set the quota of a project of", cause))
    }

    /// Removes the limit of a project. Succeeds if quotas were turned off meanwhile.
    pub(super) fn drop_limit(&self, id: u32) -> Result<(), Error> {
        match sys::set_limit(&self.target(), id, 0) {
            Err(cause) if is_unsupported_errno(&cause) => Ok(()),
            other => other.map_err(|cause| self.failed("remove the quota of a project of", cause)),
        }
    }

    /// Returns the project of the directory; `None` if the file system has no projects.
    pub(super) fn project(&self) -> Result<Option<u32>, Error> {
        match sys::project(self.dir.as_fd()) {
            Ok(id) => Ok(Some(id)),
            Err(cause) if is_unsupported_errno(&cause) => Ok(None),
            Err(cause) => Err(self.failed("read the project of", cause)),
        }
    }

    /// Sets the project of the directory. Everything created in the directory inherits it.
    pub(super) fn set_project(&self, id: u32) -> Result<(), Error> {
        sys::set_project(self.dir.as_fd(), id).map_err(|cause| match cause.raw_os_error() {
            // Project numbers belong to the initial user namespace; a process in another one may not set them.
            Some(libc::EINVAL) => self.not_permitted(cause),
            Some(libc::ENOTTY | libc::EOPNOTSUPP) => Error::Without { mount: self.mount() },
            _ => self.failed("set the project of", cause),
        })
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the mount that the directory was reached through. Looked up only for errors, because the table has a
    /// line for each container.
    pub(super) fn mount(&self) -> Mount {
        mount_of(&self.dir, &self.path)
    }

    fn target(&self) -> Target<'_> {
        match &self.device {
            Some(path) => Target::Device(path.clone()),
            None => Target::File(self.dir.as_fd()),
        }
    }

    fn failed(&self, op: &'static str, cause: io::Error) -> Error {
        match cause.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => self.not_permitted(cause),
            _ => Error::io(op, &self.path, cause),
        }
    }

    fn not_permitted(&self, cause: io::Error) -> Error {
        Error::NotPermitted {
            mount: self.mount(),
            cause,
        }
    }
}

/// Whether the kernel reports that there are no quotas, or none of projects, or that they are off; or that the file
/// system has no such attributes.
fn is_unsupported_errno(cause: &io::Error) -> bool {
    matches!(
        cause.raw_os_error(),
        Some(libc::ENOSYS | libc::EINVAL | libc::ESRCH | libc::ENOTTY | libc::EOPNOTSUPP | libc::ENOTBLK)
    )
}

fn open(dir: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).map_err(|cause| match cause {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => Error::OutOfSight { path: dir.to_owned() },
        _ => Error::io("open", dir, cause.into()),
    })
}

fn mount_of(fd: &OwnedFd, dir: &Path) -> Mount {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
    let id = info.ok().and_then(|info| mount::id_in(&info));
    let found = id.and_then(|id| Mount::find(&fs::read("/proc/self/mountinfo").ok()?, id));
    found.unwrap_or_else(|| Mount::unknown(dir))
}

/// Returns a path to the block device that a directory is on: by its number, or the source of the mount if that is the
/// device. `None` for a file system without a device, for which such a kernel has no quotas.
fn device(fd: &OwnedFd, dir: &Path) -> Result<Option<CString>, Error> {
    let stat = rustix::fs::fstat(fd).map_err(|cause| Error::io("inspect", dir, cause.into()))?;
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    if major == 0 {
        return Ok(None);
    }
    let is_it = |path: &Path| {
        let found = fs::metadata(path);
        found.is_ok_and(|found| found.file_type().is_block_device() && found.rdev() == stat.st_dev)
    };
    let by_number = PathBuf::from(format!("/dev/block/{major}:{minor}"));
    let path = if is_it(&by_number) {
        by_number
    } else {
        let mount = mount_of(fd, dir);
        if !is_it(&mount.source) {
            return Err(Error::NoDevice { mount });
        }
        mount.source
    };
    Ok(CString::new(path.as_os_str().as_bytes()).ok())
}
