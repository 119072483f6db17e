//! How much room there is on a file system, as data.

use std::path::PathBuf;

/// What the file system reports about itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Space {
    /// The nearest existing directory, with symbolic links resolved.
    pub(super) dir: PathBuf,
    /// Free bytes.
    pub(super) free: Option<u64>,
    /// How many more files it can have; `None` if there is no such limit, or it is unknown.
    pub(super) files: Option<u64>,
    /// Whether it is mounted read-only.
    pub(super) read_only: bool,
    /// Whether directory entries contain their type; `None` if that is unknown.
    pub(super) types_entries: Option<bool>,
}
