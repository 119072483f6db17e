//! Remains of containers that have no record, and so appear in no list: shims with everything that they hold, and empty
//! cgroups; and shims of kept containers whose run is over. They are removed at the start, in the background, and on
//! request for one name.
//!
//! A runtime or a containerd that was killed half-way leaves them. Objects that a container of another containerd could
//! own stay: a shim is identified by its socket, and a cgroup is removed only if no shim has its name. The remains of a
//! shim are removed under a record that is made for them, so that no other process can take the name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::first_records::FirstRecords;
use super::kept::{self, LastRun};
use super::label;
use super::remains::Remains;
use super::{Deps, Engine, adopt, find as records, placement, record, settle};
use crate::containerd::Record;
use crate::{ContainerId, Context};

/// The time between the two searches. The second one no longer finds remains that end by themselves.
const SETTLE: Duration = Duration::from_millis(300);

/// Starts the search.
pub(super) fn sweep(deps: &Arc<Deps>, first: &FirstRecords) {
    let (this, first) = (Arc::clone(deps), first.clone());
    deps.recover(async move {
        if let Err(error) = once(&this, first).await {
            tracing::warn!(error = %crate::chain(&error), "cannot remove the remains of containers; the next start tries again");
        }
    });
}

async fn once(deps: &Arc<Deps>, records: FirstRecords) -> Result<()> {
    let mut failed = Ok(());
    for (id, trace) in find(deps, records).await? {
        if let Err(error) = mend(deps, &id, trace).await {
            failed = Err(error);
        }
    }
    failed
}

/// The remains that two searches find.
pub(super) async fn find(deps: &Arc<Deps>, records: FirstRecords) -> Result<BTreeMap<ContainerId, Trace>> {
    let first = search(deps, &records).await?;
    drop(records);
    if first.is_empty() {
        return Ok(first);
    }
    // Not cut short by the engine's end: a command that ends at once, as most do, waits for this at its close.
    tokio::time::sleep(SETTLE).await;
    let mut now = search(deps, &FirstRecords::default()).await?;
    now.retain(|id, trace| first.get(id) == Some(trace));
    Ok(now)
}

/// Removes what was found.
pub(super) async fn mend(deps: &Arc<Deps>, id: &ContainerId, trace: Trace) -> Result<()> {
    match trace {
        Trace::Cgroup => {
            let remains = Remains::of_plan(deps, id);
            // A container of that name may have come meanwhile; it has a shim before its cgroup.
            if deps.shims_of(id).is_empty() && remains.remove_empty(deps) {
                tracing::info!(%id, "removed the empty cgroup of a container that is gone");
            }
        }
        Trace::EndedRun => {
            settle(deps, id).await?;
            tracing::info!(%id, "removed the rest of a run that has ended");
        }
        Trace::Shim => {
            if remove(deps, id).await? {
                tracing::info!(%id, "removed the remains of a container that has no record");
            }
        }
    }
    Ok(())
}

/// The kind of the remains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trace {
    /// A shim of this engine's containerd, without a record.
    Shim,
    /// A cgroup without processes, and without a shim of any containerd.
    Cgroup,
    /// A shim of a kept container whose end is on its record: the process that removed the run was killed.
    EndedRun,
}

async fn search(deps: &Deps, records: &FirstRecords) -> Result<BTreeMap<ContainerId, Trace>> {
    // The order matters: a shim exists before its cgroup and is removed after it; a record exists before its shim and
    // is removed after it. The first search may have older records, and so find too much; the second does not.
    let cgroups = placement::present(deps);
    let shims = deps.shim_args();
    let named: BTreeSet<&str> = shims.iter().map(|shim| shim.id.as_str()).collect();
    let empty = cgroups.into_iter().filter(|id| {
        let remains = || Remains::of_plan(deps, id);
        !named.contains(id.as_str()) && !remains().live(deps)
    });
    let mut found: BTreeMap<_, _> = empty.map(|id| (id, Trace::Cgroup)).collect();
    let own = shims.iter().filter(|shim| deps.is_ours(shim));
    let own: Vec<_> = own.filter_map(|shim| ContainerId::new(&shim.id).ok()).collect();
    if !own.is_empty() {
        let first: BTreeSet<_> = records.get(deps).await?.iter().map(|record| &record.id).collect();
        if own.iter().all(|id| first.contains(id)) {
            return Ok(found);
        }
        let ctx = Context::timeout(deps.config.close_grace);
        let records = deps.session.containers().list(&ctx, &[]).await;
        let records = records.at(Step::Find, "the remains of containers")?;
        let known: BTreeMap<_, _> = records.iter().map(|record| (&record.id, record)).collect();
        for id in own {
            match known.get(&id).map(|record| kept::last_run(record)) {
                None => drop(found.insert(id, Trace::Shim)),
                Some(Some(LastRun::Ended(_))) => drop(found.insert(id, Trace::EndedRun)),
                Some(_) => {}
            }
        }
    }
    Ok(found)
}

async fn settle(deps: &Arc<Deps>, id: &ContainerId) -> Result<()> {
    let ctx = Context::timeout(deps.config.close_grace);
    match records::get(deps, &ctx, id).await {
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        record => settle::settle(deps, &ctx, &record?).await,
    }
}

/// Removes the remains of a container without a record, under a record that claims its name. Returns `false` if the
/// name is taken by now.
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
        extensions: BTreeMap::new(),
    };
    let attempt = record::attempt_of(&record);
    // Before the record, which nothing else would remove if this process ended right after it.
    if let Err(error) = deps.note_removal(id, attempt) {
        tracing::debug!(%id, %error, "cannot note that remains are being removed");
    }
    let removing = async {
        match deps.session.containers().create(&ctx, &record).await {
            Err(error) if error.is_already_exists() => {
                deps.forget_unfinished(id, attempt);
                return Ok(false);
            }
            created => drop(created.at(Step::Close, id)?),
        }
        let claimed = adopt::adopt_record(deps, &ctx, &record).await?;
        claimed.remove_here().await?;
        Ok(true)
    };
    let removed = removing.await;
    if removed.is_err() {
        deps.note_unfinished(id, attempt);
    }
    removed
}

impl Engine {
    /// Removes the remains of a container that has no record; returns `false` if there are none. Remains whose
    /// processes still run are removed only with `force`.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if its processes run and `force` is not set; otherwise the error of the removal.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task, with its own time limit.
    pub(crate) async fn remove_remains(&self, id: &ContainerId, force: bool) -> Result<bool> {
        let (deps, id) = (Arc::clone(&self.0), id.clone());
        let work = async move {
            let remains = Remains::of_plan(&deps, &id);
            if deps.own_shims_of(&id).is_empty() && !remains.exist(&deps) {
                return Ok(false);
            }
            if !force && remains.live(&deps) {
                let why = "its processes still run, and nothing else is left of it; remove them with force";
                return Err(Error::new(Step::Close, &id, Kind::Conflict, why));
            }
            remove(&deps, &id).await
        };
        self.0.finished(work).await
    }
}
