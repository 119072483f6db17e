//! Removes a file or a directory with all that is in it, without following a link.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, StatxFlags, openat, statx, unlinkat};
use rustix::io::Errno;

use super::error::DEEPEST;

/// Removes `name` in `dir`. What is gone already counts as removed.
pub(super) fn remove(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    match gone(unlinkat(dir, name, AtFlags::empty())) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return done,
    }
    // The directories on the way down, with the names of what is left in each, and the own name of each.
    let mut open: Vec<(OwnedFd, Vec<OsString>, OsString)> = Vec::new();
    open.push(opened(dir, name)?);
    while let Some((inner, names, own)) = open.last_mut() {
        let Some(next) = names.pop() else {
            let own = own.clone();
            open.pop();
            let outer = open.last().map_or(dir, |(outer, ..)| outer.as_fd());
            gone(unlinkat(outer, &own, AtFlags::REMOVEDIR))?;
            continue;
        };
        match gone(unlinkat(&*inner, &next, AtFlags::empty())) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            done => {
                done?;
                continue;
            }
        }
        if open.len() >= DEEPEST {
            return Err(Errno::NAMETOOLONG);
        }
        let inner = open.last().map_or(dir, |(inner, ..)| inner.as_fd());
        let deeper = opened(inner, &next)?;
        open.push(deeper);
    }
    Ok(())
}

fn opened(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(OwnedFd, Vec<OsString>, OsString), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(dir, name, flags, Mode::empty())?;
    if mount_of(dir)? != mount_of(opened.as_fd())? {
        // What is mounted there is not the container's to lose.
        return Err(Errno::BUSY);
    }
    let names = names(opened.as_fd())?;
    Ok((opened, names, name.to_owned()))
}

/// The number of the mount that a directory is on (statx(2), Linux 5.8); 0 if the kernel does not tell.
fn mount_of(dir: BorrowedFd<'_>) -> Result<u64, Errno> {
    let found = statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(found.stx_mnt_id)
}

/// The names in a directory, without `.` and `..`.
pub(super) fn names(dir: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

fn gone(done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn everything_goes_but_what_a_link_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("d"), dir.path().join("outside"));
        fs::create_dir_all(inside.join("a/b/c")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        symlink(&outside, inside.join("a/b/link")).unwrap();
        fs::write(inside.join("a/file"), "x").unwrap();
        let opened = fs::File::open(dir.path()).unwrap();
        remove(opened.as_fd(), OsStr::new("d")).unwrap();
        remove(opened.as_fd(), OsStr::new("d")).unwrap();
        assert!(!inside.exists() && outside.join("kept").exists());
    }
}
