//! Leases: objects that a leased session creates are safe from the garbage collector until the lease is deleted or
//! expires.

use std::collections::BTreeMap;
use std::time::SystemTime;

use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{
    self as wire, AddResourceRequest, CreateRequest, DeleteRequest, ListRequest, ListResourcesRequest,
};
use prost_types::Timestamp;
use tonic::transport::Channel;

use super::any::moment;
use super::session::MAX_MESSAGE;
use super::{Error, Session};
use crate::{Context, Digest, LeaseId};

/// The label with the expiry, which the garbage collector reads.
const EXPIRE: &str = "containerd.io/gc.expire";

/// A lease of containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Its name.
    pub(crate) id: LeaseId,
    /// When it was created.
    pub(crate) created: Option<SystemTime>,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// An object that a lease can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    /// A blob.
    Content(Digest),
    /// A snapshot.
    Snapshot {
        /// The snapshotter that keeps it.
        snapshotter: String,
        /// Its key in that snapshotter.
        key: String,
    },
    /// An unfinished write, by its reference.
    Ingest(String),
}

const CONTENT: &str = "content";
const INGESTS: &str = "ingests";
const SNAPSHOTS: &str = "snapshots/";

impl Resource {
    fn to_wire(&self) -> wire::Resource {
        let (id, kind) = match self {
            Self::Content(digest) => (digest.to_string(), CONTENT.to_owned()),
            Self::Snapshot { snapshotter, key } => (key.clone(), format!("{SNAPSHOTS}{snapshotter}")),
            Self::Ingest(reference) => (reference.clone(), INGESTS.to_owned()),
        };
        wire::Resource { id, r#type: kind }
    }

    fn from_wire(resource: wire::Resource) -> Option<Self> {
        let wire::Resource { id, r#type: kind } = resource;
        match (kind.as_str(), kind.strip_prefix(SNAPSHOTS)) {
            (CONTENT, _) => Digest::new(id).ok().map(Self::Content),
            (INGESTS, _) => Some(Self::Ingest(id)),
            (_, Some(snapshotter)) => Some(Self::Snapshot {
                snapshotter: snapshotter.to_owned(),
                key: id,
            }),
            _ => None,
        }
    }
}

/// The leases service.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    session: Session,
}

impl Leases {
    pub(super) fn new(session: Session) -> Self {
        Self { session }
    }

    /// Creates a lease that the garbage collector deletes after `expires`.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] if the name is taken.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn create(
        &self,
        ctx: &Context,
        id: &LeaseId,
        expires: SystemTime,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let mut client = self.client();
        let mut labels: std::collections::HashMap<_, _> = labels.clone().into_iter().collect();
        labels.insert(EXPIRE.to_owned(), rfc3339(expires));
        let message = CreateRequest {
            id: id.to_string(),
            labels,
        };
        self.session
            .call(ctx, "Leases/Create", id.as_str())
            .change(message, |r| async move { client.create(r).await })
            .await?;
        Ok(())
    }

    /// Deletes a lease. With `sync`, objects that nothing else refers to are collected before the reply.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn delete(&self, ctx: &Context, id: &LeaseId, sync: bool) -> Result<(), Error> {
        let mut client = self.client();
        let message = DeleteRequest {
            id: id.to_string(),
            sync,
        };
        self.session
            .call(ctx, "Leases/Delete", id.as_str())
            .change(message, |r| async move { client.delete(r).await })
            .await?;
        Ok(())
    }

    /// The leases that match any of `filters`; all leases if there is no filter. Leaves out a lease whose name is not a
    /// valid [`LeaseId`].
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a malformed filter.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn list(&self, ctx: &Context, filters: &[String]) -> Result<Vec<Lease>, Error> {
        let mut client = self.client();
        let message = ListRequest {
            filters: filters.to_vec(),
        };
        let reply = self
            .session
            .call(ctx, "Leases/List", "")
            .read(message, |r| async move { client.list(r).await })
            .await?;
        let leases = reply.leases.into_iter().filter_map(|lease| {
            Some(Lease {
                id: LeaseId::new(lease.id).ok()?,
                created: moment(lease.created_at),
                labels: lease.labels.into_iter().collect(),
            })
        });
        Ok(leases.collect())
    }

    /// Adds an existing object to a lease.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such lease.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn add_resource(
        &self,
        ctx: &Context,
        id: &LeaseId,
        resource: &Resource,
    ) -> Result<(), Error> {
        let mut client = self.client();
        let message = AddResourceRequest {
            id: id.to_string(),
            resource: Some(resource.to_wire()),
        };
        self.session
            .call(ctx, "Leases/AddResource", id.as_str())
            .change(message, |r| async move { client.add_resource(r).await })
            .await?;
        Ok(())
    }

    /// The objects that a lease holds. Leaves out kinds that [`Resource`] does not have.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such lease.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn resources(&self, ctx: &Context, id: &LeaseId) -> Result<Vec<Resource>, Error> {
        let mut client = self.client();
        let message = ListResourcesRequest { id: id.to_string() };
        let reply = self
            .session
            .call(ctx, "Leases/ListResources", id.as_str())
            .read(message, |r| async move { client.list_resources(r).await })
            .await?;
        Ok(reply
            .resources
            .into_iter()
            .filter_map(Resource::from_wire)
            .collect())
    }

    fn client(&self) -> LeasesClient<Channel> {
        LeasesClient::new(self.session.channel()).max_decoding_message_size(MAX_MESSAGE)
    }
}

/// Formats a time in whole seconds, which are precise enough: the collector runs far less often.
fn rfc3339(at: SystemTime) -> String {
    let mut at = Timestamp::from(at);
    at.nanos = 0;
    at.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_expiry_is_written_as_go_reads_it() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_210_096_789);
        assert_eq!(rfc3339(at), "2024-02-29T12:34:56Z");
    }
}
