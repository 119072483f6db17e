//! Container records: containerd's description of a container, kept whether the container runs or not.

use std::collections::BTreeMap;
use std::time::SystemTime;

use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, DeleteContainerRequest, GetContainerRequest, ListContainersRequest,
    UpdateContainerRequest,
};
use prost_types::{Any, FieldMask};
use tonic::transport::Channel;

use super::any::{moment, pack_options, pack_spec, unpack_options};
use super::session::MAX_MESSAGE;
use super::{Error, RuntimeOptions, Session};
use crate::{ContainerId, Context, InvalidName};

/// The type of an extension's bytes. containerd stores them and never reads them.
const EXTENSION_TYPE: &str = "types.fnctr.io/json";

/// A container record of containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its name.
    pub(crate) id: ContainerId,
    /// The name of the image that the container was created from; empty if none.
    pub(crate) image: String,
    /// Labels, which list filters can match.
    pub(crate) labels: BTreeMap<String, String>,
    /// The shim, as in `io.containerd.runc.v2`.
    pub(crate) runtime: String,
    /// The shim's options about the runtime.
    pub(crate) runtime_options: Option<RuntimeOptions>,
    /// The OCI runtime spec, as JSON.
    pub(crate) spec: Vec<u8>,
    /// The snapshotter of the container's root file system.
    pub(crate) snapshotter: String,
    /// The key of the root file system in that snapshotter.
    pub(crate) snapshot_key: String,
    /// When the container was created. Set by containerd; ignored on create.
    pub(crate) created_at: Option<SystemTime>,
    /// What clients keep on the record for themselves, as JSON.
    pub(crate) extensions: BTreeMap<String, Vec<u8>>,
}

/// The fields of a record that an update replaces; all others stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    /// All labels.
    Labels,
    /// The OCI runtime spec.
    Spec,
    /// The extension of this name.
    Extension(&'static str),
}

impl Field {
    /// The path in the mask (containerd's metadata/containers.go).
    fn path(&self) -> String {
        match self {
            Self::Labels => "labels".to_owned(),
            Self::Spec => "spec".to_owned(),
            Self::Extension(name) => format!("extensions.{name}"),
        }
    }
}

/// The containers service.
#[derive(Debug, Clone)]
pub(crate) struct Containers {
    session: Session,
}

impl Containers {
    pub(super) fn new(session: Session) -> Self {
        Self { session }
    }

    /// Creates a record, and returns it as containerd has it.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] if the name is taken.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn create(&self, ctx: &Context, record: &Record) -> Result<Record, Error> {
        let mut client = self.client();
        let message = CreateContainerRequest {
            container: Some(to_wire(record)),
        };
        let call = self.session.call(ctx, "Containers/Create", record.id.as_str());
        let reply = call
            .change(message, |r| async move { client.create(r).await })
            .await?;
        let container = reply
            .container
            .ok_or_else(|| call.malformed("it has no container"))?;
        from_wire(container).map_err(|why| call.malformed(why.to_string()))
    }

    /// Returns the record with this name.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn get(&self, ctx: &Context, id: &ContainerId) -> Result<Record, Error> {
        let mut client = self.client();
        let message = GetContainerRequest { id: id.to_string() };
        let call = self.session.call(ctx, "Containers/Get", id.as_str());
        let reply = call.read(message, |r| async move { client.get(r).await }).await?;
        let container = reply
            .container
            .ok_or_else(|| call.malformed("it has no container"))?;
        from_wire(container).map_err(|why| call.malformed(why.to_string()))
    }

    /// The records that match any of `filters` (containerd's syntax, as in `labels."name"=="value"`); all records if
    /// there is no filter. Leaves out a record whose name is not a valid [`ContainerId`].
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a malformed filter.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn list(&self, ctx: &Context, filters: &[String]) -> Result<Vec<Record>, Error> {
        let filters = filters.to_vec();
        match self
            .streamed(
                ctx,
                ListContainersRequest {
                    filters: filters.clone(),
                },
            )
            .await
        {
            Err(error) if error.is_unimplemented() => {
                self.at_once(ctx, ListContainersRequest { filters }).await
            }
            other => other,
        }
    }

    /// Lists with one message per record: all records together may exceed the size of a message.
    async fn streamed(&self, ctx: &Context, message: ListContainersRequest) -> Result<Vec<Record>, Error> {
        let mut client = self.client();
        let call = self.session.call(ctx, "Containers/ListStream", "");
        let opening = call.read(message, |r| async move { client.list_stream(r).await });
        let mut stream = opening.await?;
        let mut records = Vec::new();
        while let Some(message) = call.step(stream.message()).await? {
            records.extend(message.container.and_then(nameable));
        }
        Ok(records)
    }

    /// Lists in one message, for servers that cannot stream.
    async fn at_once(&self, ctx: &Context, message: ListContainersRequest) -> Result<Vec<Record>, Error> {
        let mut client = self.client();
        let reply = self
            .session
            .call(ctx, "Containers/List", "")
            .read(message, |r| async move { client.list(r).await })
            .await?;
        Ok(reply.containers.into_iter().filter_map(nameable).collect())
    }

    /// Replaces these fields of a record by those of `record`, at once.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no record of this name.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn update(&self, ctx: &Context, record: &Record, fields: &[Field]) -> Result<(), Error> {
        let mut client = self.client();
        let message = UpdateContainerRequest {
            container: Some(to_wire(record)),
            update_mask: Some(FieldMask {
                paths: fields.iter().map(Field::path).collect(),
            }),
        };
        self.session
            .call(ctx, "Containers/Update", record.id.as_str())
            .change(message, |r| async move { client.update(r).await })
            .await?;
        Ok(())
    }

    /// Deletes a record. Its task and its snapshot are not touched.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn delete(&self, ctx: &Context, id: &ContainerId) -> Result<(), Error> {
        let mut client = self.client();
        let message = DeleteContainerRequest { id: id.to_string() };
        self.session
            .call(ctx, "Containers/Delete", id.as_str())
            .change(message, |r| async move { client.delete(r).await })
            .await?;
        Ok(())
    }

    fn client(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.session.channel()).max_decoding_message_size(MAX_MESSAGE)
    }
}

/// The record, if its name is a valid [`ContainerId`].
fn nameable(container: Container) -> Option<Record> {
    from_wire(container)
        .inspect_err(|why| tracing::debug!(%why, "skipped a container record that fnctr did not make"))
        .ok()
}

fn to_wire(record: &Record) -> Container {
    Container {
        id: record.id.to_string(),
        image: record.image.clone(),
        labels: record.labels.clone().into_iter().collect(),
        runtime: Some(Runtime {
            name: record.runtime.clone(),
            options: record.runtime_options.as_ref().map(pack_options),
        }),
        spec: Some(pack_spec(&record.spec)),
        snapshotter: record.snapshotter.clone(),
        snapshot_key: record.snapshot_key.clone(),
        extensions: record.extensions.iter().map(extension_to_wire).collect(),
        ..Container::default()
    }
}

fn extension_to_wire((name, value): (&String, &Vec<u8>)) -> (String, Any) {
    let any = Any {
        type_url: EXTENSION_TYPE.to_owned(),
        value: value.clone(),
    };
    (name.clone(), any)
}

fn from_wire(container: Container) -> Result<Record, InvalidName> {
    let runtime = container.runtime.unwrap_or_default();
    Ok(Record {
        id: ContainerId::new(container.id)?,
        image: container.image,
        labels: container.labels.into_iter().collect(),
        runtime: runtime.name,
        runtime_options: runtime.options.as_ref().and_then(unpack_options),
        spec: container.spec.map(|spec| spec.value).unwrap_or_default(),
        snapshotter: container.snapshotter,
        snapshot_key: container.snapshot_key,
        created_at: moment(container.created_at),
        extensions: container
            .extensions
            .into_iter()
            .map(|(name, any)| (name, any.value))
            .collect(),
    })
}
