//! Directories and files that only this user can write, read or lock.
//!
//! A user who can write to containerd's directories controls what containerd does, and a user who can open a lock file,
//! even for reading, can hold the lock. So everything here is closed to other users whatever the umask is, and a
//! directory that others can change is refused.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;

use super::Error;

const DIR: u32 = 0o700;
const FILE: u32 = 0o600;
const PERMISSIONS: u32 = 0o7777;
const OTHERS_WRITE: u32 = 0o022;

/// Creates a directory together with its missing parents, and returns its canonical path. An existing directory keeps
/// its permissions, but must belong to this user and be writable only by this user.
pub(super) fn dir(path: &Path) -> Result<PathBuf, Error> {
    let fail = |cause| Error::at(path, "create", cause);
    DirBuilder::new()
        .recursive(true)
        .mode(DIR)
        .create(path)
        .map_err(fail)?;
    let real = path.canonicalize().map_err(fail)?;
    ours(&real)?;
    Ok(real)
}

/// Refuses a directory that another user owns or can write.
pub(super) fn ours(dir: &Path) -> Result<(), Error> {
    let found = dir.metadata().map_err(|cause| Error::at(dir, "inspect", cause))?;
    owned(dir, found.uid())?;
    if found.mode() & OTHERS_WRITE != 0 {
        return Err(Error::Writable { path: dir.to_owned() });
    }
    Ok(())
}

/// Opens a file that only this user may open. A file that other users could open is closed to them.
pub(super) fn file(path: &Path, options: &mut OpenOptions) -> Result<File, Error> {
    let fail = |cause| Error::at(path, "open", cause);
    let file = options
        .mode(FILE)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(fail)?;
    let found = file.metadata().map_err(fail)?;
    owned(path, found.uid())?;
    if found.mode() & PERMISSIONS != FILE {
        file.set_permissions(Permissions::from_mode(FILE)).map_err(fail)?;
    }
    Ok(file)
}

fn owned(path: &Path, uid: u32) -> Result<(), Error> {
    if uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(Error::Foreign {
        path: path.to_owned(),
        uid,
    })
}

/// The canonical path, or the one that the path will have once it is created: without links, `.` and `..`.
pub(super) fn real_name(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut real = PathBuf::new();
    for part in path.components() {
        match part {
            // The part before `..` is canonical already, or would be created as a directory: neither is a link.
            Component::ParentDir => {
                real.pop();
            }
            part => {
                real.push(part);
                if let Ok(found) = real.canonicalize() {
                    real = found;
                }
            }
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & PERMISSIONS
    }

    #[test]
    fn every_directory_that_is_made_is_closed() {
        let top = tempfile::tempdir().unwrap();
        dir(&top.path().join("a/b")).unwrap();
        for made in ["a", "a/b"] {
            assert_eq!(mode(&top.path().join(made)), 0o700, "{made}");
        }
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused_and_left_as_it_is() {
        let top = tempfile::tempdir().unwrap();
        for open in [0o777, 0o1777, 0o770, 0o702] {
            fs::set_permissions(top.path(), Permissions::from_mode(open)).unwrap();
            let error = dir(top.path()).unwrap_err();
            assert!(error.to_string().contains("chmod go-w "), "{open:o}: {error}");
            assert_eq!(mode(top.path()), open);
        }
        fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
        dir(top.path()).unwrap();
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root can change the owner.
        }
        let top = tempfile::tempdir().unwrap();
        let lock = top.path().join("lock");
        fs::write(&lock, "").unwrap();
        for given in [&lock, top.path()] {
            std::os::unix::fs::chown(given, Some(1000), None).unwrap();
        }
        for error in [
            dir(top.path()).unwrap_err(),
            file(&lock, OpenOptions::new().write(true)).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Foreign { uid: 1000, .. }), "{error:?}");
        }
    }

    #[test]
    fn a_file_that_was_open_to_others_is_closed() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("lock");
        for open in [0o644, 0o666, 0o400] {
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
            file(&path, OpenOptions::new().read(true)).unwrap();
            assert_eq!(mode(&path), 0o600);
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed() {
        let top = tempfile::tempdir().unwrap();
        let (target, link) = (top.path().join("target"), top.path().join("link"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        file(&link, OpenOptions::new().create(true).write(true)).unwrap_err();
        assert!(!target.exists());
    }

    #[test]
    fn every_spelling_of_a_place_has_the_same_real_name_before_and_after_it_is_made() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&top, top.join("link")).unwrap();
        let place = top.join("a/b");
        for made in [false, true] {
            for spelling in ["a/b", "a/./b", "a/../a/b", "link/a/b", "link/../", "no/../a/b"] {
                let name = real_name(&top.join(spelling));
                let expected = if spelling == "link/../" {
                    top.parent().unwrap()
                } else {
                    &place
                };
                assert_eq!(name, expected, "{spelling}, made: {made}");
            }
            fs::create_dir_all(&place).unwrap();
        }
    }
}
