//! Whose limit was hit when processes were killed.

use std::path::PathBuf;

/// Whose limit was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LimitOwner {
    /// The container's own limit.
    Own,
    /// A limit that the container set itself, on a part of it.
    Inside,
    /// The limit of a cgroup above the container.
    Above {
        /// Its directory.
        dir: PathBuf,
        /// Its limit in bytes, if it still has one.
        limit: Option<u64>,
    },
    /// The machine's whole memory.
    Machine,
    /// It cannot be determined.
    Unknown,
}
