//! Removes what processes that are gone left of networks: namespaces, addresses, rules. This is done at the start, in
//! the background. Networks that a container uses stay.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Deps;
use super::error::{At as _, Result, Step};
use super::find::adopt_record;
use super::label;
use super::network::{refused, sandbox_of};
use crate::Context;

/// Starts the work, if any network was ever recorded.
pub(super) fn reconcile(deps: &Arc<Deps>) {
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

/// Removes the networks that no container has, and returns their number. A failure is returned at the end, and does not
/// stop the rest.
async fn once(deps: &Arc<Deps>) -> Result<usize> {
    let name = "networks";
    let sandboxes = deps.sandboxes().await.map_err(|error| refused(name, error))?;
    let orphans = sandboxes.orphans().await.map_err(|error| refused(name, error))?;
    let strays = sandboxes.strays().await.map_err(|error| refused(name, error))?;
    // Not the engine's context: a command that ends at once, as most do, waits for this at its close and does not cut
    // it off.
    let ctx = Context::timeout(deps.config.close_grace);
    // Read after the orphans: a process that is gone makes no more containers.
    let filters = [label::SANDBOX, label::HOLDER].map(|label| format!("labels.{label:?}"));
    let records = deps.session.containers().list(&ctx, &filters).await;
    let records = records.at(Step::Find, name)?;
    let tasks = deps.session.tasks().list(&ctx).await.at(Step::Find, name)?;
    let tasks: BTreeSet<String> = tasks.into_iter().map(|(id, _)| id).collect();
    let live = records.iter().filter(|record| tasks.contains(record.id.as_str()));
    let used: BTreeSet<&str> = live.filter_map(sandbox_of).collect();
    let free = orphans.into_iter().filter(|id| !used.contains(id.as_str()));
    // A container that only holds a slot is not needed if the slot is gone, or is removed now.
    let known = sandboxes.known().await.map_err(|error| refused(name, error))?;
    let (mut removed, mut failed) = (0, None);
    let free: Vec<String> = free.chain(strays).collect();
    for record in &records {
        let holds = record.labels.get(label::HOLDER);
        if holds.is_some_and(|sandbox| free.contains(sandbox) || !known.contains(sandbox)) {
            let ctx = Context::timeout(deps.config.close_grace);
            let closed = async { adopt_record(deps, &ctx, record).await?.remove().await };
            failed = closed.await.err().or(failed);
        }
    }
    for id in free {
        let ctx = Context::timeout(deps.config.close_grace);
        match sandboxes.remove(&ctx, &id).await {
            Ok(_) => removed += 1,
            Err(error) => failed = Some(refused(id, error)),
        }
    }
    failed.map_or(Ok(removed), Err)
}
