//! Removes parts of networks (namespaces, addresses, rules) that processes have left: at the start, in the background.
//! Networks that a container uses stay.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Deps;
use super::adopt::adopt_record;
use super::error::{ErrorContext as _, Result, Step};
use super::find::get;
use super::label;
use super::network::{refused, sandbox_of};
use crate::{ContainerId, Context};

/// Starts the work, if any network was ever recorded.
pub(super) fn sweep(deps: &Arc<Deps>) {
    if !deps.sandbox_journal().is_dir() {
        return;
    }
    let this = Arc::clone(deps);
    deps.recover(async move {
        match once(&this).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed network namespaces that no container has"),
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "cannot remove networks that killed processes left; the next start tries again")
            }
        }
    });
}

/// Networks that nothing needs any more, and their holders.
#[derive(Debug, Default)]
pub(super) struct StrayNetworks {
    /// Containers that only hold a slot of a pool, if the slot no longer exists or is removed now.
    pub(super) holders: Vec<ContainerId>,
    /// Sandboxes that no container has.
    pub(super) sandboxes: Vec<String>,
}

/// Finds the networks that no container has.
pub(super) async fn find(deps: &Arc<Deps>) -> Result<StrayNetworks> {
    if !deps.sandbox_journal().is_dir() {
        return Ok(StrayNetworks::default());
    }
    let name = "networks";
    let sandboxes = deps.sandboxes().await.map_err(|error| refused(name, error))?;
    let orphans = sandboxes.orphans().await.map_err(|error| refused(name, error))?;
    let strays = sandboxes.strays().await.map_err(|error| refused(name, error))?;
    // Not the engine's context: a command that ends at once, as most do, waits for this at its close and does not cut
    // it off.
    let ctx = Context::timeout(deps.config.close_grace);
    // Read after the orphans: a process that has ended makes no more containers.
    let filters = [label::SANDBOX, label::HOLDER].map(|label| format!("labels.{label:?}"));
    let records = deps.session.containers().list(&ctx, &filters).await;
    let records = records.at(Step::Find, name)?;
    let tasks = deps.session.tasks().list(&ctx).await.at(Step::Find, name)?;
    let tasks: BTreeSet<String> = tasks.into_iter().map(|(id, _)| id).collect();
    let live = records.iter().filter(|record| tasks.contains(record.id.as_str()));
    let used: BTreeSet<&str> = live.filter_map(sandbox_of).collect();
    let free = orphans.into_iter().filter(|id| !used.contains(id.as_str()));
    let free: Vec<String> = free.chain(strays).collect();
    let known = sandboxes.known().await.map_err(|error| refused(name, error))?;
    let holds = |label: &String| free.contains(label) || !known.contains(label);
    let holders = records
        .iter()
        .filter(|record| record.labels.get(label::HOLDER).is_some_and(holds));
    Ok(StrayNetworks {
        holders: holders.map(|record| record.id.clone()).collect(),
        sandboxes: free,
    })
}

/// Removes a container that only holds a slot.
pub(super) async fn remove_holder(deps: &Arc<Deps>, id: &ContainerId) -> Result<()> {
    let ctx = Context::timeout(deps.config.close_grace);
    let record = get(deps, &ctx, id).await?;
    match record.labels.contains_key(label::HOLDER) {
        true => adopt_record(deps, &ctx, &record).await?.remove().await,
        // Another container has the name by now.
        false => Ok(()),
    }
}

/// Removes a sandbox that no container has.
pub(super) async fn remove(deps: &Arc<Deps>, id: &str) -> Result<()> {
    let ctx = Context::timeout(deps.config.close_grace);
    let sandboxes = deps.sandboxes().await.map_err(|error| refused(id, error))?;
    let removed = sandboxes.remove(&ctx, id).await;
    removed.map(drop).map_err(|error| refused(id, error))
}

/// Removes the networks that no container has, and returns their number. A failure is returned at the end, and does not
/// stop the rest.
async fn once(deps: &Arc<Deps>) -> Result<usize> {
    let found = find(deps).await?;
    let (mut removed, mut failed) = (0, None);
    for holder in found.holders {
        failed = remove_holder(deps, &holder).await.err().or(failed);
    }
    for id in found.sandboxes {
        match remove(deps, &id).await {
            Ok(()) => removed += 1,
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(removed), Err)
}
