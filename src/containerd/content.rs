//! The content store: blobs by digest. For writing blobs, see `ingest`.

use std::collections::BTreeMap;

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::{
    DeleteContentRequest, Info, InfoRequest, ReadContentRequest, ReadContentResponse, UpdateRequest,
};
use containerd_client::types;
use prost_types::FieldMask;
use tonic::Streaming;
use tonic::transport::Channel;

use super::Session;
use super::call::Call;
use super::error::{Cause, Error};
use super::session::MAX_MESSAGE;
use super::writer::wire_size;
use crate::{Context, Digest};

/// A blob's type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Descriptor {
    /// The media type of its bytes.
    pub(crate) media_type: String,
    /// The digest, which is the blob's name.
    pub(crate) digest: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Descriptor {
    pub(super) fn to_wire(&self) -> types::Descriptor {
        types::Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.to_string(),
            size: i64::try_from(self.size).unwrap_or(i64::MAX),
            ..types::Descriptor::default()
        }
    }

    pub(super) fn from_wire(wire: types::Descriptor) -> Result<Self, String> {
        Ok(Self {
            media_type: wire.media_type,
            digest: Digest::new(wire.digest).map_err(|why| why.to_string())?,
            size: u64::try_from(wire.size).map_err(|_| format!("a size of {}", wire.size))?,
        })
    }
}

/// The store's record of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentInfo {
    /// The blob's size in bytes.
    pub(crate) size: u64,
    /// Labels. Those that start with `containerd.io/gc.ref.` keep other objects alive.
    pub(crate) labels: BTreeMap<String, String>,
}

/// The content service.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(super) session: Session,
}

/// A blob that is being read in parts.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    call: Call<'a>,
    stream: Streaming<ReadContentResponse>,
}

impl Parts<'_> {
    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// Those of every call.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let part = self.call.step(self.stream.message()).await?;
        Ok(part.map(|part| part.data))
    }
}

impl Content {
    pub(super) fn new(session: Session) -> Self {
        Self { session }
    }

    /// Returns the store's record of a blob.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn info(&self, ctx: &Context, digest: &Digest) -> Result<ContentInfo, Error> {
        let mut client = self.client();
        let message = InfoRequest {
            digest: digest.to_string(),
        };
        let call = self.session.call(ctx, "Content/Info", digest.as_str());
        let reply = call
            .read(message, |r| async move { client.info(r).await })
            .await?;
        let info = reply.info.ok_or_else(|| call.malformed("it has no blob"))?;
        Ok(ContentInfo {
            size: u64::try_from(info.size).unwrap_or(0),
            labels: info.labels.into_iter().collect(),
        })
    }

    /// Reads a whole blob into memory. Fails if it has more than `max` bytes.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none, [`Error::is_invalid`] if it is too large.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn read(&self, ctx: &Context, blob: &Descriptor, max: u64) -> Result<Vec<u8>, Error> {
        let call = self.session.call(ctx, "Content/Read", blob.digest.as_str());
        let too_large = || call.error(Cause::Unusable(format!("it is larger than {max} bytes")));
        if blob.size > max {
            return Err(too_large());
        }
        let mut parts = self.stream(ctx, &blob.digest).await?;
        let mut bytes = Vec::new();
        while let Some(part) = parts.next().await? {
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > max {
                return Err(too_large());
            }
        }
        Ok(bytes)
    }

    /// Reads the first bytes of a blob, at most `max`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn head(&self, ctx: &Context, digest: &Digest, max: u64) -> Result<Vec<u8>, Error> {
        // A request for more bytes than the blob has would be refused.
        let size = self.info(ctx, digest).await?.size.min(max);
        let mut parts = self.part(ctx, digest, size).await?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            let Some(part) = parts.next().await? else { break };
            bytes.extend_from_slice(&part);
        }
        bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    /// Reads a whole blob, part by part.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none, at the latest with the first part.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn stream<'a>(
        &'a self,
        ctx: &'a Context,
        digest: &'a Digest,
    ) -> Result<Parts<'a>, Error> {
        // A size of 0 means the whole blob.
        self.part(ctx, digest, 0).await
    }

    async fn part<'a>(&'a self, ctx: &'a Context, digest: &'a Digest, size: u64) -> Result<Parts<'a>, Error> {
        let mut client = self.client();
        let call = self.session.call(ctx, "Content/Read", digest.as_str());
        let message = ReadContentRequest {
            digest: digest.to_string(),
            size: wire_size(size),
            ..ReadContentRequest::default()
        };
        let stream = call
            .read(message, |r| async move { client.read(r).await })
            .await?;
        Ok(Parts { call, stream })
    }

    /// Deletes a blob.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn delete(&self, ctx: &Context, digest: &Digest) -> Result<(), Error> {
        let mut client = self.client();
        let message = DeleteContentRequest {
            digest: digest.to_string(),
        };
        self.session
            .call(ctx, "Content/Delete", digest.as_str())
            .change(message, |r| async move { client.delete(r).await })
            .await?;
        Ok(())
    }

    /// Sets these labels of a blob and leaves its other labels; an empty value removes a label.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such blob.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn set_labels(
        &self,
        ctx: &Context,
        digest: &Digest,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        if labels.is_empty() {
            return Ok(());
        }
        let mut client = self.client();
        let message = UpdateRequest {
            info: Some(Info {
                digest: digest.to_string(),
                labels: labels.clone().into_iter().collect(),
                ..Info::default()
            }),
            update_mask: Some(FieldMask {
                paths: labels.keys().map(|key| format!("labels.{key}")).collect(),
            }),
        };
        self.session
            .call(ctx, "Content/Update", digest.as_str())
            .change(message, |r| async move { client.update(r).await })
            .await?;
        Ok(())
    }

    pub(super) fn client(&self) -> ContentClient<Channel> {
        ContentClient::new(self.session.channel()).max_decoding_message_size(MAX_MESSAGE)
    }
}
