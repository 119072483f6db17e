//! The files of users and groups in a container that runs, for a user that is given by name.
//!
//! They are the container's: whatever their path leads to is looked up within the container's root, and only a regular
//! file of a sensible size is read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;

use fnctr_oci::UserFiles;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

/// The most that is read of a file, in bytes.
const LIMIT: u64 = 4 << 20;

/// Reads the files of the container that a process is in. Blocks.
///
/// # Errors
/// If a file is there and cannot be read, or is none that could be meant.
pub(super) fn of(pid: u32) -> io::Result<UserFiles> {
    let root = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), root, Mode::empty())?;
    let root = std::os::fd::AsFd::as_fd(&root);
    Ok(UserFiles {
        passwd: read(root, "etc/passwd")?,
        group: read(root, "etc/group")?,
    })
}

fn read(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<String>> {
    // Not to wait at a fifo.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        opened => opened?,
    };
    let refuse = |why: &str| {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/{path} {why}"),
        ))
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return refuse("is no regular file");
    }
    let mut bytes = Vec::new();
    File::from(file).take(LIMIT + 1).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()).is_ok_and(|length| length <= LIMIT) {
        true => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        false => refuse("is larger than 4 MiB"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_looked_up_within_the_root_and_must_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let read = || read(root.as_fd(), "etc/passwd");
        assert_eq!(read().unwrap(), None, "there is no directory");
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        assert_eq!(read().unwrap(), None, "there is no file");
        fs::write(dir.path().join("etc/users"), "own").unwrap();
        let link = dir.path().join("etc/passwd");
        // Out of the root, this would be a file of the host.
        for target in ["/etc/users", "../../../../etc/users"] {
            symlink(target, &link).unwrap();
            assert_eq!(read().unwrap().as_deref(), Some("own"), "{target}");
            fs::remove_file(&link).unwrap();
        }
        nix::unistd::mkfifo(&link, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read().unwrap_err().to_string().contains("no regular file"));
        fs::remove_file(&link).unwrap();
        File::create(&link).unwrap().set_len(LIMIT + 1).unwrap();
        assert!(read().unwrap_err().to_string().contains("larger"));
        File::create(&link).unwrap().set_len(LIMIT).unwrap();
        assert!(read().unwrap().is_some());
    }
}
