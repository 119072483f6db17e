//! Files of containers that have no record: directories of streams and logs, which this engine makes; bundles, which containerd
//! makes and leaves if it is killed while it removes one; and the OCI runtime's own records, which a runtime leaves that
//! is killed together with the shim that would have cleaned up after it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::Deps;
use super::bundle::Bundle;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::logs;
use super::remains::{self, Remains};
use crate::stdio::Fifos;
use crate::{ContainerId, Context, clock};

/// A younger directory may belong to a create or a removal in progress; neither takes nearly as long.
const YOUNG: Duration = Duration::from_secs(120);

/// The files that were found.
#[derive(Debug, Default)]
pub(super) struct StrayFiles {
    /// The containers that have a directory of streams.
    pub(super) streams: Vec<ContainerId>,
    /// The containers that have a bundle, and the bundle.
    pub(super) bundles: Vec<(ContainerId, Bundle)>,
    /// The containers that have a record of the OCI runtime.
    pub(super) runtime_records: Vec<ContainerId>,
    /// The containers that have a log.
    pub(super) logs: Vec<ContainerId>,
}

/// Finds the files of containers without a record. A container of another containerd may use the same directory for its
/// streams; while it runs, it has a shim.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn find(deps: &Deps, ctx: &Context) -> Result<StrayFiles> {
    // The files are read first: they are made after the record, and removed before it.
    let mut found = StrayFiles {
        streams: old_streams(deps),
        bundles: deps.bundles(),
        runtime_records: old_runtime_records(deps),
        logs: old_logs(deps),
    };
    found.bundles.retain(|(_, bundle)| is_old(bundle.path()));
    if found.streams.is_empty()
        && found.bundles.is_empty()
        && found.runtime_records.is_empty()
        && found.logs.is_empty()
    {
        return Ok(found);
    }
    let records = deps.session.containers().list(ctx, &[]).await;
    let records = records.at(Step::Find, "the files of containers")?;
    let known: BTreeSet<_> = records.iter().map(|record| &record.id).collect();
    let shims = deps.shim_args();
    let has_shim = |id: &ContainerId| shims.iter().any(|shim| shim.id == id.as_str());
    let is_stray = |id: &ContainerId| !known.contains(id) && !has_shim(id);
    found.streams.retain(is_stray);
    found.bundles.retain(|(id, _)| is_stray(id));
    found.logs.retain(is_stray);
    found
        .runtime_records
        .retain(|id| is_stray(id) && !Remains::of_plan(deps, id).have_processes(deps));
    Ok(found)
}

fn old_runtime_records(deps: &Deps) -> Vec<ContainerId> {
    let records = std::fs::read_dir(remains::runtime_records(deps))
        .into_iter()
        .flatten();
    let old = records.flatten().filter(|entry| is_old(&entry.path()));
    let names = old.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| ContainerId::new(&name).ok()).collect()
}

fn old_logs(deps: &Deps) -> Vec<ContainerId> {
    let logs = std::fs::read_dir(logs::dir(deps)).into_iter().flatten().flatten();
    let old = logs.filter(|entry| is_old(&entry.path()));
    let names = old.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| ContainerId::new(&name).ok()).collect()
}

fn old_streams(deps: &Deps) -> Vec<ContainerId> {
    let dir = deps.config.run_dir.join(deps.config.namespace.as_str());
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let ids = names.filter_map(|name| ContainerId::new(&name).ok());
    ids.filter(|id| {
        let dir = deps.fifo_dir(id);
        Fifos::are_in(&dir) && is_old(&dir)
    })
    .collect()
}

fn is_old(dir: &Path) -> bool {
    let made = std::fs::symlink_metadata(dir).and_then(|found| found.modified());
    let age = made.ok().and_then(clock::age);
    age.is_some_and(|age| age > YOUNG)
}

/// Removes the directory of streams of a container, if it is still a stray.
///
/// # Cancellation
/// Not safe to drop.
pub(super) async fn remove_streams(deps: &Deps, ctx: &Context, id: &ContainerId) -> Result<()> {
    // A container of that name may have come meanwhile.
    if !find(deps, ctx).await?.streams.contains(id) {
        return Ok(());
    }
    let removed = Fifos::remove(&deps.fifo_dir(id));
    removed.map_err(|error| Error::new(Step::Close, id, Kind::Internal, error))
}

/// Removes the log of a container, if it is still a stray.
///
/// # Cancellation
/// Not safe to drop.
pub(super) async fn remove_log(deps: &Deps, ctx: &Context, id: &ContainerId) -> Result<()> {
    if !find(deps, ctx).await?.logs.contains(id) {
        return Ok(());
    }
    let removed = logs::remove(&logs::dir(deps).join(id.as_str()));
    removed.map_err(|error| Error::new(Step::Close, id, Kind::Internal, error))
}

/// Removes the OCI runtime's record of a container, if it is still a stray.
///
/// # Cancellation
/// Not safe to drop.
pub(super) async fn remove_runtime_record(deps: &Deps, ctx: &Context, id: &ContainerId) -> Result<()> {
    if !find(deps, ctx).await?.runtime_records.contains(id) {
        return Ok(());
    }
    let removed = Remains::of_plan(deps, id).remove_runtime_record();
    removed.map_err(|error| Error::new(Step::Close, id, Kind::Internal, error))
}

/// Removes the bundles of a container, if they are still strays.
///
/// # Cancellation
/// Not safe to drop.
pub(super) async fn remove_bundles(deps: &Deps, ctx: &Context, id: &ContainerId) -> Result<()> {
    let found = find(deps, ctx).await?.bundles;
    let own = found.iter().filter(|(of, _)| of == id);
    own.for_each(|(_, bundle)| bundle.remove());
    Ok(())
}
