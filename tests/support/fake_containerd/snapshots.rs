//! The Snapshots service. Each snapshot has real, empty directories, so its mounts can be mounted.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use containerd_client::services::v1::snapshots::{self as api, Info, Kind};
use containerd_client::types::Mount;
use tonic::Status;
use tonic::codegen::tokio_stream::once;

use super::Fake;
use super::filter;
use super::grpc::{Call, Replies, Service};
use super::state::{Namespace, Snapshot, State, already_exists, not_found, now, update_labels};

pub(super) fn routes(fake: &Arc<Fake>) -> Router {
    Service::new(fake, "containerd.services.snapshots.v1.Snapshots")
        .plain("Prepare", prepare)
        .plain("View", view)
        .plain("Mounts", mounts)
        .plain("Commit", commit)
        .plain("Remove", remove)
        .plain("Stat", stat)
        .plain("Update", update)
        .plain("Usage", usage)
        .streaming("List", list)
        .routes()
}

impl State {
    /// Makes a snapshot and its directories, and tells how to mount it.
    pub(super) fn add_snapshot(
        &mut self,
        root: &std::path::Path,
        call: &Call,
        snapshotter: &str,
        info: Info,
    ) -> Result<Vec<Mount>, Status> {
        loaded(snapshotter)?;
        self.snapshots_made += 1;
        let dir = root.join(self.snapshots_made.to_string());
        let namespace = self.of(call)?;
        let key = (snapshotter.to_owned(), info.name.clone());
        if namespace.snapshots.contains_key(&key) {
            return Err(already_exists("snapshot", &info.name));
        }
        if !info.parent.is_empty() {
            match namespace
                .snapshots
                .get(&(snapshotter.into(), info.parent.clone()))
            {
                None => {
                    let text = format!("parent snapshot {} does not exist: not found", info.parent);
                    return Err(Status::not_found(text));
                }
                Some(parent) if parent.info.kind() != Kind::Committed => {
                    return Err(Status::invalid_argument(
                        "parent is not committed snapshot: invalid argument",
                    ));
                }
                Some(_) => {}
            }
        }
        namespace.hold(call, &format!("snapshots/{snapshotter}"), &info.name)?;
        for part in ["fs", "work"] {
            fs::create_dir_all(dir.join(part)).map_err(|error| Status::unknown(error.to_string()))?;
        }
        let snapshot = Snapshot { info, dir };
        let mounts = snapshot.mounts(&namespace.below(snapshotter, &snapshot.info));
        namespace.snapshots.insert(key, snapshot);
        Ok(mounts)
    }
}

impl Namespace {
    /// The directories of a snapshot's ancestors, nearest first.
    fn below(&self, snapshotter: &str, info: &Info) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut parent = info.parent.clone();
        while let Some(snapshot) = self.snapshots.get(&(snapshotter.into(), parent)) {
            found.push(snapshot.dir.clone());
            parent = snapshot.info.parent.clone();
        }
        found
    }

    fn snapshot(&mut self, snapshotter: &str, key: &str) -> Result<&mut Snapshot, Status> {
        let found = self.snapshots.get_mut(&(snapshotter.into(), key.into()));
        found.ok_or_else(|| not_found("snapshot", key))
    }
}

fn loaded(snapshotter: &str) -> Result<(), Status> {
    if ["overlayfs", "native"].contains(&snapshotter) {
        return Ok(());
    }
    let text = format!("snapshotter not loaded: {snapshotter}: invalid argument");
    Err(Status::invalid_argument(text))
}

fn info(name: String, parent: String, kind: Kind, labels: std::collections::HashMap<String, String>) -> Info {
    Info {
        name,
        parent,
        kind: kind.into(),
        created_at: now(),
        updated_at: now(),
        labels,
    }
}

fn prepare(
    fake: &Fake,
    call: &Call,
    r: api::PrepareSnapshotRequest,
) -> Result<api::PrepareSnapshotResponse, Status> {
    let info = info(r.key, r.parent, Kind::Active, r.labels);
    let mounts = fake
        .state()
        .add_snapshot(&fake.root, call, &r.snapshotter, info)?;
    Ok(api::PrepareSnapshotResponse { mounts })
}

fn view(fake: &Fake, call: &Call, r: api::ViewSnapshotRequest) -> Result<api::ViewSnapshotResponse, Status> {
    let info = info(r.key, r.parent, Kind::View, r.labels);
    let mounts = fake
        .state()
        .add_snapshot(&fake.root, call, &r.snapshotter, info)?;
    Ok(api::ViewSnapshotResponse { mounts })
}

fn mounts(fake: &Fake, call: &Call, r: api::MountsRequest) -> Result<api::MountsResponse, Status> {
    let mut state = fake.state();
    let namespace = state.of(call)?;
    let snapshot = namespace.snapshot(&r.snapshotter, &r.key)?.clone();
    let below = namespace.below(&r.snapshotter, &snapshot.info);
    Ok(api::MountsResponse {
        mounts: snapshot.mounts(&below),
    })
}

fn commit(fake: &Fake, call: &Call, r: api::CommitSnapshotRequest) -> Result<(), Status> {
    let mut state = fake.state();
    let namespace = state.of(call)?;
    let committed = (r.snapshotter.clone(), r.name.clone());
    if namespace.snapshots.contains_key(&committed) {
        return Err(already_exists("snapshot", &r.name));
    }
    let active = namespace.snapshot(&r.snapshotter, &r.key)?.clone();
    if active.info.kind() != Kind::Active {
        return Err(Status::failed_precondition(
            "snapshot is not active: failed precondition",
        ));
    }
    let kind = format!("snapshots/{}", r.snapshotter);
    namespace.hold(call, &kind, &r.name)?;
    // The committed snapshot takes the place of the active one.
    namespace
        .snapshots
        .remove(&(r.snapshotter.clone(), r.key.clone()));
    for lease in namespace.leases.values_mut() {
        lease.holds.remove(&(kind.clone(), r.key.clone()));
    }
    let snapshot = Snapshot {
        info: info(r.name, active.info.parent, Kind::Committed, r.labels),
        dir: active.dir,
    };
    namespace.snapshots.insert(committed, snapshot);
    Ok(())
}

fn remove(fake: &Fake, call: &Call, r: api::RemoveSnapshotRequest) -> Result<(), Status> {
    let mut state = fake.state();
    let namespace = state.of(call)?;
    let dir = namespace.snapshot(&r.snapshotter, &r.key)?.dir.clone();
    let mut children = namespace
        .snapshots
        .iter()
        .filter(|((of, _), _)| *of == r.snapshotter);
    if children.any(|(_, child)| child.info.parent == r.key) {
        return Err(Status::failed_precondition(
            "cannot remove snapshot with child: failed precondition",
        ));
    }
    namespace
        .snapshots
        .remove(&(r.snapshotter.clone(), r.key.clone()));
    for lease in namespace.leases.values_mut() {
        lease
            .holds
            .remove(&(format!("snapshots/{}", r.snapshotter), r.key.clone()));
    }
    fs::remove_dir_all(dir).map_err(|error| Status::unknown(error.to_string()))
}

fn stat(fake: &Fake, call: &Call, r: api::StatSnapshotRequest) -> Result<api::StatSnapshotResponse, Status> {
    loaded(&r.snapshotter)?;
    let mut state = fake.state();
    let snapshot = state.of(call)?.snapshot(&r.snapshotter, &r.key)?;
    Ok(api::StatSnapshotResponse {
        info: Some(snapshot.info.clone()),
    })
}

fn update(
    fake: &Fake,
    call: &Call,
    r: api::UpdateSnapshotRequest,
) -> Result<api::UpdateSnapshotResponse, Status> {
    let wanted = r.info.unwrap_or_default();
    let mut state = fake.state();
    let snapshot = state.of(call)?.snapshot(&r.snapshotter, &wanted.name)?;
    update_labels(&mut snapshot.info.labels, wanted.labels, r.update_mask.as_ref());
    snapshot.info.updated_at = now();
    Ok(api::UpdateSnapshotResponse {
        info: Some(snapshot.info.clone()),
    })
}

fn usage(fake: &Fake, call: &Call, r: api::UsageRequest) -> Result<api::UsageResponse, Status> {
    fake.state().of(call)?.snapshot(&r.snapshotter, &r.key)?;
    Ok(api::UsageResponse {
        size: 4096,
        inodes: 1,
    })
}

async fn list(
    fake: Arc<Fake>,
    call: Call,
    r: api::ListSnapshotsRequest,
) -> Result<Replies<api::ListSnapshotsResponse>, Status> {
    let mut info = Vec::new();
    for ((of, name), snapshot) in &fake.state().of(&call)?.snapshots {
        let usual = filter::labelled(name, &snapshot.info.labels);
        let field = |path: &str| match path {
            "parent" => Some(snapshot.info.parent.clone()),
            "kind" => Some(format!("{:?}", snapshot.info.kind()).to_lowercase()),
            _ => usual(path),
        };
        if *of == r.snapshotter && filter::matches(&r.filters, field)? {
            info.push(snapshot.info.clone());
        }
    }
    Ok(Box::pin(once(Ok(api::ListSnapshotsResponse { info }))))
}
