//! How the output of a container is kept, as data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::stdio::LogOptions;

/// How the output of a container is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogPlan {
    pub(super) options: LogOptions,
    /// The current file; see [`super::logs`].
    pub(super) path: PathBuf,
}

impl LogPlan {
    /// A plan whose place the engine chooses.
    pub(crate) fn new(options: LogOptions) -> Self {
        let path = PathBuf::new();
        Self { options, path }
    }
}
