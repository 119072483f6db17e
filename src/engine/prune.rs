//! Removes the containers that no process looks after any more, and no others. Kept containers are only ended.

use super::adopt::adopt_record;
use super::error::{ErrorContext as _, Result, Step};
use super::find;
use super::label;
use super::record::attempt_of;
use super::stop::Stop;
use super::{Deps, Engine};
use crate::{ContainerId, Context};

impl Engine {
    /// Removes or ends every orphaned container (see [`ListedContainer::is_orphaned`](super::ListedContainer::is_orphaned)), in any state, and
    /// returns the result for each.
    ///
    /// # Cancellation
    /// Safe to drop: a removal that has begun continues on its own task.
    pub(crate) async fn prune(&self, ctx: &Context) -> Result<Vec<(ContainerId, Result<()>)>> {
        let containers = find::list(&self.0, ctx).await?;
        let mut pruned = Vec::new();
        for orphan in containers.iter().filter(|container| container.is_orphaned()) {
            let attempt = orphan.labels.get(label::ATTEMPT).map_or("", String::as_str);
            let removed = remove(&self.0, ctx, &orphan.id, attempt).await;
            pruned.push((orphan.id.clone(), removed));
        }
        Ok(pruned)
    }
}

/// Removes the container that was listed; a later one of the same name has another owner.
async fn remove(deps: &std::sync::Arc<Deps>, ctx: &Context, id: &ContainerId, attempt: &str) -> Result<()> {
    let record = match deps.session.containers().get(ctx, id).await {
        Err(error) if error.is_not_found() => return Ok(()),
        other => other.at(Step::Find, id)?,
    };
    if attempt_of(&record) != attempt {
        return Ok(());
    }
    let container = adopt_record(deps, ctx, &record).await?;
    if container.is_kept() {
        // It was to stay after its end.
        return container.stop(ctx, Stop::KILL).await.map(drop);
    }
    container.remove().await
}
