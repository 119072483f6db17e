//! The records that need attention, as the work at an engine's start finds them: listed once for all of that work, since
//! a list has every spec.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::error::{At as _, Result, Step};
use super::{Deps, label};
use crate::Context;
use crate::containerd::Record;

/// The records of containers with a deadline and of kept containers with a run, as they were when they were first asked
/// for. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct FirstRecords(Arc<OnceCell<Vec<Record>>>);

impl FirstRecords {
    /// Lists the records, unless that was done before.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn get(&self, deps: &Deps) -> Result<&[Record]> {
        let filters = [
            format!("labels.{:?}", label::DEADLINE),
            format!("labels.{:?}=={}", label::KEPT, label::KEPT_WITH_RUN),
        ];
        // Not the engine's context: a command that ends at once waits for this at its close and does not cut it off.
        let ctx = Context::timeout(deps.config.close_grace);
        let list = || async { deps.session.containers().list(&ctx, &filters).await };
        let listed = self.0.get_or_try_init(list).await;
        listed
            .map(Vec::as_slice)
            .at(Step::Find, "the containers at the start")
    }
}
