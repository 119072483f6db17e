//! What is left of containers that have no record, so that no list shows them: shims with whatever they hold, and empty
//! cgroups. Removed at the start, in the background, and when a person asks for it by its name.
//!
//! A runtime or a containerd that was killed half-way leaves them. Nothing is touched that a container of another containerd
//! could own: a shim is told by its socket, a cgroup by the lack of any shim of that name. What still has a shim is removed
//! under a record that is made for it, which keeps everybody else from the name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::error::{At as _, Error, Kind, Result, Step};
use super::label;
use super::remains::Remains;
use super::{Deps, Engine, find, placement};
use crate::containerd::Record;
use crate::{ContainerId, Context};

/// What ends by itself is gone at the second look.
const SETTLE: Duration = Duration::from_millis(300);

/// Begins to look.
pub(super) fn sweep(deps: &Arc<Deps>) {
    let this = Arc::clone(deps);
    deps.recover(async move {
        if let Err(error) = once(&this).await {
            tracing::warn!(error = %crate::chain(&error), "cannot remove the remains of containers; the next start tries again");
        }
    });
}

async fn once(deps: &Arc<Deps>) -> Result<()> {
    let first = look(deps).await?;
    if first.is_empty() {
        return Ok(());
    }
    // Not the engine's own end: a command that ends at once, as most do, waits for this at its close.
    tokio::time::sleep(SETTLE).await;
    let now = look(deps).await?;
    let mut failed = Ok(());
    for (id, trace) in now {
        if first.get(&id) != Some(&trace) {
            continue;
        }
        match trace {
            Trace::Cgroup => {
                let remains = Remains::of_plan(deps, &id);
                if remains.remove_empty(deps) {
                    tracing::info!(%id, "removed the empty cgroup of a container that is gone");
                }
            }
            Trace::Shim => match remove(deps, &id).await {
                Ok(true) => tracing::info!(%id, "removed the remains of a container that has no record"),
                Ok(false) => {}
                Err(error) => failed = Err(error),
            },
        }
    }
    failed
}

/// By what it is known that something is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trace {
    /// A shim of our containerd that no record stands for.
    Shim,
    /// A cgroup without processes that no shim of any containerd stands for.
    Cgroup,
}

async fn look(deps: &Deps) -> Result<BTreeMap<ContainerId, Trace>> {
    // In this order: a shim is there before its cgroup, and goes after it; a record, before and after its shim.
    let cgroups = placement::present(deps);
    let shims = deps.shims();
    let named: BTreeSet<&str> = shims.iter().map(|shim| shim.id.as_str()).collect();
    let empty = cgroups.into_iter().filter(|id| {
        let remains = || Remains::of_plan(deps, id);
        !named.contains(id.as_str()) && !remains().live(deps)
    });
    let mut found: BTreeMap<_, _> = empty.map(|id| (id, Trace::Cgroup)).collect();
    let own = shims.iter().filter(|shim| deps.is_ours(shim));
    let own: Vec<_> = own.filter_map(|shim| ContainerId::new(&shim.id).ok()).collect();
    if !own.is_empty() {
        let ctx = Context::timeout(deps.config.close_grace);
        let records = deps.session.containers().list(&ctx, &[]).await;
        let records = records.at(Step::Find, "the remains of containers")?;
        let known: BTreeSet<_> = records.into_iter().map(|record| record.id).collect();
        let lost = own.into_iter().filter(|id| !known.contains(id));
        found.extend(lost.map(|id| (id, Trace::Shim)));
    }
    Ok(found)
}

/// Removes what is left of a container without a record, under a record that claims its name. `false` if somebody has the
/// name by now.
async fn remove(deps: &Arc<Deps>, id: &ContainerId) -> Result<bool> {
    let ctx = Context::timeout(deps.config.close_grace);
    let spec = serde_json::json!({ "linux": { "cgroupsPath": deps.notation(id) } });
    let labels = [
        (label::ENGINE, env!("CARGO_PKG_VERSION").to_owned()),
        (label::ATTEMPT, crate::ids::unique()),
    ];
    let record = Record {
        id: id.clone(),
        image: String::new(),
        labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
        runtime: deps.config.runtime.name.clone(),
        runtime_options: deps.config.runtime.options(),
        spec: spec.to_string().into_bytes(),
        snapshotter: deps.config.snapshotter.clone(),
        snapshot_key: id.to_string(),
        created_at: None,
    };
    match deps.session.containers().create(&ctx, &record).await {
        Err(error) if error.is_already_exists() => return Ok(false),
        created => created.at(Step::Close, id)?,
    }
    // If this fails, the record shows in a list, and whoever removes it tries again.
    let claimed = find::adopt_record(deps, &ctx, &record).await?;
    claimed.remove_here().await?;
    Ok(true)
}

impl Engine {
    /// Removes what is left of a container that has no record; `false` if nothing is. What still runs is only removed if
    /// `force`.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if processes of it live and `force` is not set; else what could not be removed.
    ///
    /// # Cancellation
    /// Continues on its own task, with its own clock.
    pub(crate) async fn remove_remains(&self, id: &ContainerId, force: bool) -> Result<bool> {
        let (deps, id) = (Arc::clone(&self.0), id.clone());
        let work = async move {
            let remains = Remains::of_plan(&deps, &id);
            if deps.own_shims_of(&id).is_empty() && !remains.exist(&deps) {
                return Ok(false);
            }
            if !force && remains.live(&deps) {
                let why = "processes of it live, and nothing but they are left of it; remove them with force";
                return Err(Error::new(Step::Close, &id, Kind::Conflict, why));
            }
            remove(&deps, &id).await
        };
        self.0.finished(work).await
    }
}
