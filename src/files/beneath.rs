//! Look-ups beneath a directory, which no link and no `..` leaves.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;

use super::error::{Error, Result};

/// How often a look-up is tried again. The kernel gives up if a directory is moved while `..` is looked up (openat2(2),
/// EAGAIN), which a container can make happen as often as it likes.
const TRIES: u32 = 100;

/// The mode of a directory that no entry describes.
const IMPLIED: u32 = 0o755;

/// Opens a path beneath `root` (openat2(2), RESOLVE_IN_ROOT).
pub(super) fn open_in(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> std::result::Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < TRIES => tries += 1,
            opened => return opened,
        }
    }
}

/// Opens a directory beneath a root, and makes what is missing of it. Links are followed beneath the root.
pub(super) fn make_dirs(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let fail = |errno| Error::of(path.as_os_str().as_bytes(), errno);
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_in(root, path, flags) {
        Err(Errno::NOENT) => {}
        opened => return opened.map_err(fail),
    }
    let mut so_far = PathBuf::from("/");
    let mut dir = open_in(root, &so_far, flags).map_err(fail)?;
    for name in path.strip_prefix("/").unwrap_or(path) {
        so_far.push(name);
        dir = match open_in(root, &so_far, flags) {
            Err(Errno::NOENT) => {
                match mkdirat(&dir, name, Mode::from_raw_mode(IMPLIED)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(fail(errno)),
                }
                open_in(root, &so_far, flags).map_err(fail)?
            }
            opened => opened.map_err(fail)?,
        };
    }
    Ok(dir)
}
