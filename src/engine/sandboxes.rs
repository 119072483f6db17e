//! The sandboxes of an instance, for lists.

use super::Engine;
use crate::sandbox;

impl Engine {
    /// The sandboxes of this containerd namespace, for a list; none if there never was one.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn sandboxes(&self) -> Vec<sandbox::Listed> {
        if !self.0.sandbox_journal().is_dir() {
            return Vec::new();
        }
        let listed = match self.0.sandboxes().await {
            Ok(sandboxes) => sandboxes.list(),
            Err(error) => Err(error),
        };
        listed.unwrap_or_else(|error| {
            tracing::warn!(error = %crate::chain(&error), "cannot list the networks");
            Vec::new()
        })
    }
}
