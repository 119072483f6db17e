//! One thing that a writable layer has from the start.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use crate::image::Ownership;

/// What shows what is mounted.
const MOUNTS: &str = "/proc/mounts";

/// Something that the layer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A directory on the way to something else, as the image has it.
    Way(String, Ownership),
    /// A directory of this owner and mode, whatever is there.
    Directory(String, Ownership),
    /// An empty file.
    File(String),
    /// A symbolic link to what is mounted.
    Mounts(String),
}

impl Item {
    /// Where it is in the container.
    pub(super) fn path(&self) -> &str {
        let (Self::Way(path, _) | Self::Directory(path, _) | Self::File(path) | Self::Mounts(path)) = self;
        path
    }

    /// Makes it at this place of a layer that nobody has mounted.
    pub(super) fn make(&self, at: &Path) -> io::Result<()> {
        let there = match fs::symlink_metadata(at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            found => Some(found?.is_dir()),
        };
        match (self, there) {
            (Self::Way(..), Some(true)) => return Ok(()),
            (Self::Directory(..), Some(true)) | (_, None) => {}
            // A layer that is a copy of the image has the image's link, or whatever it is.
            _ => fs::remove_file(at)?,
        }
        match self {
            Self::Way(_, whose) | Self::Directory(_, whose) => {
                if there != Some(true) {
                    fs::create_dir(at)?;
                }
                chown(at, Some(whose.uid), Some(whose.gid))?;
                fs::set_permissions(at, fs::Permissions::from_mode(whose.mode))
            }
            Self::File(_) => {
                let file = fs::File::options()
                    .write(true)
                    .create_new(true)
                    .mode(0o644)
                    .open(at)?;
                file.set_permissions(fs::Permissions::from_mode(0o644))
            }
            Self::Mounts(_) => symlink(MOUNTS, at),
        }
    }
}
