//! One item of the initial content of a writable layer.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use crate::image::Ownership;

/// The list of mounts.
const MOUNTS: &str = "/proc/mounts";

/// An item of the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A parent directory of another item, as the image has it. An existing one stays as it is.
    Parent(String, Ownership),
    /// A directory of this owner and mode, which an existing one gets too.
    Directory(String, Ownership),
    /// An empty file.
    File(String),
    /// A symbolic link to the list of mounts.
    Mounts(String),
}

impl Item {
    /// Its path in the container.
    pub(super) fn path(&self) -> &str {
        let (Self::Parent(path, _) | Self::Directory(path, _) | Self::File(path) | Self::Mounts(path)) = self;
        path
    }

    /// Makes the item at this path of a layer that is not mounted.
    pub(super) fn make(&self, at: &Path) -> io::Result<()> {
        let there = match fs::symlink_metadata(at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            found => Some(found?.is_dir()),
        };
        match (self, there) {
            (Self::Parent(..), Some(true)) => return Ok(()),
            (Self::Directory(..), Some(true)) | (_, None) => {}
            // A layer that is a copy of the image has the image's link, or other file, there.
            _ => fs::remove_file(at)?,
        }
        match self {
            Self::Parent(_, whose) | Self::Directory(_, whose) => {
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
