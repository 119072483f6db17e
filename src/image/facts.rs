//! The facts that are read from every root file system.

use serde::{Deserialize, Serialize};

use super::etc::Etc;

/// Facts about an image that each of its containers may need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootfsFacts {
    /// The text of /etc/passwd, empty if there is none; or why it cannot be read, which matters only if a user is
    /// looked up by name.
    pub(crate) passwd: Result<String, String>,
    /// The text of /etc/group, in the same form as `passwd`.
    pub(crate) group: Result<String, String>,
    /// What the image contains where a container gets its own files.
    pub(crate) etc: Etc,
}
