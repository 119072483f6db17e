//! What a file is.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, OFlags, Stat, readlinkat, statat};

use super::error::{Error, Result};
use super::path::ContainerPath;
use super::root::Root;

/// A file of a container, as `lstat(2)` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileStat {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its kind and permissions (inode(7)).
    pub(crate) mode: u32,
    /// When it was last modified.
    pub(crate) modified: SystemTime,
    /// Where a symbolic link leads to in the container, if it is one.
    pub(crate) target: Option<PathBuf>,
}

impl FileStat {
    /// Looks at a path. Blocks.
    ///
    /// # Errors
    /// [`Error::Missing`] and [`Error::NotDirectory`], as for every look-up.
    pub(crate) fn of(root: &Root, path: &ContainerPath) -> Result<Self> {
        let (dir, name) = root.place_of(path)?;
        let fail = |errno| Error::of(path.bytes(), errno);
        let found = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        if path.must_be_directory() && !is(&found, rustix::fs::FileType::Directory) {
            return Err(fail(rustix::io::Errno::NOTDIR));
        }
        let target = match is(&found, rustix::fs::FileType::Symlink) {
            true => {
                let text = readlinkat(&dir, name, Vec::new()).map_err(fail)?;
                Some(target(
                    root,
                    path.as_path(),
                    Path::new(std::ffi::OsStr::from_bytes(text.as_bytes())),
                ))
            }
            false => None,
        };
        Ok(Self {
            size: u64::try_from(found.st_size).unwrap_or_default(),
            mode: found.st_mode,
            modified: modified(&found),
            target,
        })
    }
}

/// Where a link leads to: the file itself, or what would be it if it were there.
fn target(root: &Root, link: &Path, text: &Path) -> PathBuf {
    let opened = root.open(link, OFlags::PATH).ok();
    let found = opened.and_then(|opened| root.path_of(std::os::fd::AsFd::as_fd(&opened)));
    found.unwrap_or_else(|| {
        let joined = link.parent().unwrap_or_else(|| Path::new("/")).join(text);
        ContainerPath::new(&joined.to_string_lossy()).as_path().to_owned()
    })
}

pub(super) fn is(stat: &Stat, kind: rustix::fs::FileType) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == kind
}

fn modified(stat: &Stat) -> SystemTime {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let seconds = Duration::from_secs(stat.st_mtime.unsigned_abs());
    let whole = match stat.st_mtime < 0 {
        true => UNIX_EPOCH.checked_sub(seconds),
        false => UNIX_EPOCH.checked_add(seconds),
    };
    whole
        .and_then(|at| at.checked_add(Duration::from_nanos(nanos.into())))
        .unwrap_or(UNIX_EPOCH)
}
