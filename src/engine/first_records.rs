//! The records that need attention, as the work at an engine's start finds them: listed once for all of that work,
//! since a list has every spec. For a command that lists all containers, its own list is the same one.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::config::Role;
use super::error::{ErrorContext as _, Result, Step};
use super::{Deps, kept, label};
use crate::Context;
use crate::containerd::Record;

/// The records of containers with a deadline and of kept containers with a run, as of the first request. Clones share
/// them.
#[derive(Debug, Clone, Default)]
pub(super) struct FirstRecords(Arc<OnceCell<Vec<Record>>>);

impl FirstRecords {
    /// Those that the engine of a command that lists all containers has anyway.
    pub(super) fn shared(deps: &Deps) -> Self {
        Self(Arc::clone(&deps.first))
    }

    /// Lists the records, unless that was done before.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn get(&self, deps: &Deps) -> Result<Vec<&Record>> {
        let needs = |record: &&Record| record.labels.contains_key(label::DEADLINE) || kept::has_run(record);
        Ok(self.listed(deps).await?.iter().filter(needs).collect())
    }

    /// All records of the engine, for the engine of a command that lists them.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn all(&self, deps: &Deps) -> Result<&[Record]> {
        debug_assert_eq!(deps.config.role, Role::List);
        self.listed(deps).await
    }

    async fn listed(&self, deps: &Deps) -> Result<&[Record]> {
        let filters = match deps.config.role {
            Role::List => vec![format!("labels.{:?}", label::ENGINE)],
            Role::Server | Role::Command | Role::Observer => vec![
                format!("labels.{:?}", label::DEADLINE),
                format!("labels.{:?}=={}", label::KEPT, label::KEPT_WITH_RUN),
            ],
        };
        // Not the engine's context: a command that ends at once waits for this at its close and does not cut it off.
        let ctx = Context::timeout(deps.config.close_grace);
        let list = || async { deps.session.containers().list(&ctx, &filters).await };
        let listed = self.0.get_or_try_init(list).await;
        listed
            .map(Vec::as_slice)
            .at(Step::Find, "the containers at the start")
    }
}
