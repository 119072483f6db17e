//! A sandbox that is planned but not made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::cni::List;
use super::inner::Inner;

/// A sandbox that is planned but not made: only its name is taken, and it counts as a user of its network.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(super) id: String,
    pub(super) path: PathBuf,
    /// The chosen network, followed by the ones to try if it is full.
    pub(super) lists: Vec<List>,
    pub(super) arguments: Map<String, Value>,
    pub(super) _counts: Counts,
}

/// Counts one future user of a network, until dropped. By then the sandbox either has a journal entry and is counted by
/// that, or will never be attached.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) inner: Arc<Inner>,
    pub(super) network: String,
}

impl Drop for Counts {
    fn drop(&mut self) {
        self.inner.networks.gave_back(&self.network);
    }
}

impl Reserved {
    /// The name of the sandbox.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The path at which the namespace will be pinned.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
