//! Copies what is in a directory from one root to another.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fstat};
use rustix::io::Errno;

use super::error::{Error, Result};
use super::pack::pack;
use super::path::ContainerPath;
use super::root::Root;
use super::unpack::{Unpacking, unpack};

/// Copies everything in a directory into the directory `to`, which gets the owner and the mode of the first one too. Owners,
/// modes, times, links, devices and extended attributes stay what they are. Returns false if there is no such directory to
/// copy from. Blocks.
///
/// # Errors
/// What came before the error is copied.
pub(crate) fn copy_tree(from: &Root, path: &ContainerPath, to: &Root) -> Result<bool> {
    let fail = |errno| Error::of(path.bytes(), errno);
    let opened = match from.open(path.as_path(), OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
        opened => opened.map_err(fail)?,
    };
    let found = fstat(&opened).map_err(fail)?;
    let (archive, sink) = io::pipe().map_err(Error::Sink)?;
    // A tar archive on its way through a pipe: the two ends know everything that a file can be.
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || pack(from, path, OsStr::new("."), sink));
        let how = Unpacking {
            keeps_kinds: false,
            makes_devices: true,
            owner: None,
            drops_privileges: false,
        };
        let unpacked = unpack(to, &ContainerPath::new("/"), archive, how);
        let panicked = |_| {
            Err(Error::Sink(io::Error::other(
                "the thread that packs has panicked",
            )))
        };
        (packing.join().unwrap_or_else(panicked), unpacked)
    });
    match (packed, unpacked) {
        // The other end has failed, and says why.
        (Err(Error::Sink(_)), Err(error)) | (Ok(()), Err(error)) | (Err(error), _) => return Err(error),
        (Ok(()), Ok(_)) => {}
    }
    let copied = to
        .open(Path::new("/"), OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(fail)?;
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    fchown(&copied, Some(uid), Some(gid)).map_err(fail)?;
    fchmod(&copied, Mode::from_raw_mode(found.st_mode & 0o7777)).map_err(fail)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_directory_arrives_with_modes_links_and_what_is_below_it() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = from.path().join("data");
        fs::create_dir_all(at.join("a/b")).unwrap();
        fs::write(at.join("a/b/f"), "x").unwrap();
        fs::hard_link(at.join("a/b/f"), at.join("g")).unwrap();
        symlink("/etc/passwd", at.join("link")).unwrap();
        fs::set_permissions(at.join("a"), fs::Permissions::from_mode(0o2750)).unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(0o1730)).unwrap();
        let roots = (Root::of_dir(from.path()), Root::of_dir(to.path()));
        assert!(copy_tree(&roots.0, &ContainerPath::new("/data/."), &roots.1).unwrap());
        let mode = |path: &str| fs::symlink_metadata(to.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode(""), mode("a")), (0o1730, 0o2750));
        assert_eq!(fs::read(to.path().join("g")).unwrap(), b"x");
        assert_eq!(fs::metadata(to.path().join("a/b/f")).unwrap().nlink(), 2);
        assert_eq!(
            fs::read_link(to.path().join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        for path in ["/nothing/.", "/data/g/."] {
            assert!(!copy_tree(&roots.0, &ContainerPath::new(path), &roots.1).unwrap());
        }
    }
}
