//! Why volumes cannot be read or changed.

use std::io;
use std::path::{Path, PathBuf};

use super::name::VolumeName;
use crate::Interrupted;

/// Why volumes cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is read as volume::Error")]
pub(crate) enum Error {
    /// There is no volume of that name.
    #[error("there is no volume {name}")]
    Missing { name: VolumeName },
    /// Another process holds the lock.
    #[error("another process has been changing volumes all the time; try again when that has ended")]
    Busy,
    /// The caller's time is over.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The file that states what a volume is cannot be understood.
    #[error("{} does not state what the volume is", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// The file system refuses.
    #[error("cannot use {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of the file system at `path`.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Io { path, source }
    }
}
