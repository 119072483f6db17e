//! Snapshots: root file systems in layers, kept by one of containerd's snapshotters.

use std::collections::BTreeMap;

use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, Kind, MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
    StatSnapshotRequest, UsageRequest, ViewSnapshotRequest,
};
use containerd_client::types;
use tonic::transport::Channel;

use super::session::MAX_MESSAGE;
use super::{Error, Session};
use crate::Context;

/// One mount, as a snapshotter describes it. Several mounts, in order, form a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The file system, as in `overlay` or `bind`.
    pub(crate) kind: String,
    /// The source of the mount.
    pub(crate) source: String,
    /// The directory below the root; empty for the root itself.
    pub(crate) target: String,
    /// Options, as `mount -o` takes them.
    pub(crate) options: Vec<String>,
}

/// The kind of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotKind {
    /// Read-only.
    View,
    /// Writable.
    Active,
    /// Finished; can be the parent of others.
    Committed,
    /// A kind that this crate does not know.
    Unknown,
}

/// The snapshotter's record of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotInfo {
    /// The kind of the snapshot.
    pub(crate) kind: SnapshotKind,
    /// The snapshot below it.
    pub(crate) parent: Option<String>,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// The snapshots service, for one snapshotter.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    session: Session,
    snapshotter: String,
}

type Labels = BTreeMap<String, String>;

impl Snapshots {
    pub(super) fn new(session: Session, snapshotter: &str) -> Self {
        Self {
            session,
            snapshotter: snapshotter.to_owned(),
        }
    }

    /// Creates a writable snapshot on top of `parent`; without a parent it is empty.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] if the key is taken, [`Error::is_not_found`] if the parent is missing.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn prepare(
        &self,
        ctx: &Context,
        key: &str,
        parent: Option<&str>,
        labels: &Labels,
    ) -> Result<Vec<Mount>, Error> {
        let mut client = self.client();
        let message = PrepareSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.to_owned(),
            parent: parent.unwrap_or_default().to_owned(),
            labels: labels.clone().into_iter().collect(),
        };
        let reply = self
            .session
            .call(ctx, "Snapshots/Prepare", key)
            .change(message, |r| async move { client.prepare(r).await })
            .await?;
        Ok(mounts_from_wire(reply.mounts))
    }

    /// Creates a read-only snapshot of `parent`.
    ///
    /// # Errors
    /// As [`Snapshots::prepare`].
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn view(
        &self,
        ctx: &Context,
        key: &str,
        parent: Option<&str>,
        labels: &Labels,
    ) -> Result<Vec<Mount>, Error> {
        let mut client = self.client();
        let message = ViewSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.to_owned(),
            parent: parent.unwrap_or_default().to_owned(),
            labels: labels.clone().into_iter().collect(),
        };
        let reply = self
            .session
            .call(ctx, "Snapshots/View", key)
            .change(message, |r| async move { client.view(r).await })
            .await?;
        Ok(mounts_from_wire(reply.mounts))
    }

    /// Returns the mounts of an active snapshot or a view.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn mounts(&self, ctx: &Context, key: &str) -> Result<Vec<Mount>, Error> {
        let mut client = self.client();
        let message = MountsRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.to_owned(),
        };
        let reply = self
            .session
            .call(ctx, "Snapshots/Mounts", key)
            .read(message, |r| async move { client.mounts(r).await })
            .await?;
        Ok(mounts_from_wire(reply.mounts))
    }

    /// Finishes the active snapshot `key` under the name `name`, and removes the key.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] if the name is taken; then the active snapshot stays.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn commit(
        &self,
        ctx: &Context,
        name: &str,
        key: &str,
        labels: &Labels,
    ) -> Result<(), Error> {
        let mut client = self.client();
        let message = CommitSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels: labels.clone().into_iter().collect(),
        };
        self.session
            .call(ctx, "Snapshots/Commit", name)
            .change(message, |r| async move { client.commit(r).await })
            .await?;
        Ok(())
    }

    /// Returns the snapshotter's record of a snapshot.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn stat(&self, ctx: &Context, key: &str) -> Result<SnapshotInfo, Error> {
        let mut client = self.client();
        let message = StatSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.to_owned(),
        };
        let call = self.session.call(ctx, "Snapshots/Stat", key);
        let reply = call
            .read(message, |r| async move { client.stat(r).await })
            .await?;
        let info = reply.info.ok_or_else(|| call.malformed("it has no snapshot"))?;
        Ok(SnapshotInfo {
            kind: match info.kind() {
                Kind::View => SnapshotKind::View,
                Kind::Active => SnapshotKind::Active,
                Kind::Committed => SnapshotKind::Committed,
                Kind::Unknown => SnapshotKind::Unknown,
            },
            parent: (!info.parent.is_empty()).then_some(info.parent),
            labels: info.labels.into_iter().collect(),
        })
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none, [`Error::is_failed_precondition`] if another snapshot is on top of it.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn remove(&self, ctx: &Context, key: &str) -> Result<(), Error> {
        let mut client = self.client();
        let message = RemoveSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.to_owned(),
        };
        self.session
            .call(ctx, "Snapshots/Remove", key)
            .change(message, |r| async move { client.remove(r).await })
            .await?;
        Ok(())
    }

    /// How many bytes and inodes a snapshot takes by itself, without its parents.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn usage(&self, ctx: &Context, key: &str) -> Result<(u64, u64), Error> {
        let mut client = self.client();
        let message = UsageRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.to_owned(),
        };
        let reply = self
            .session
            .call(ctx, "Snapshots/Usage", key)
            .read(message, |r| async move { client.usage(r).await })
            .await?;
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok((count(reply.size), count(reply.inodes)))
    }

    fn client(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.session.channel()).max_decoding_message_size(MAX_MESSAGE)
    }
}

pub(super) fn mounts_to_wire(mounts: &[Mount]) -> Vec<types::Mount> {
    let to_wire = |mount: &Mount| types::Mount {
        r#type: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    };
    mounts.iter().map(to_wire).collect()
}

fn mounts_from_wire(mounts: Vec<types::Mount>) -> Vec<Mount> {
    let from_wire = |mount: types::Mount| Mount {
        kind: mount.r#type,
        source: mount.source,
        target: mount.target,
        options: mount.options,
    };
    mounts.into_iter().map(from_wire).collect()
}
