//! One open write into the content store, which can continue where an earlier write stopped.
//!
//! containerd keeps an unfinished write and its bytes under the write's reference for as long as a lease holds it. A
//! caller that opens the reference again receives the number of those bytes. Only one writer at a time may have a
//! reference open; for a second one the open fails ([`Error::is_locked`]), even in another process.
//!
//! The reply to a chunk is awaited only before the next chunk is sent, so the caller reads its source while containerd
//! writes and hashes.

use std::collections::BTreeMap;
use std::time::Duration;

use containerd_client::services::v1::{
    AbortRequest, StatusRequest, WriteAction, WriteContentRequest, WriteContentResponse,
};
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use super::call::{Call, LONG};
use super::error::Error;
use super::{Content, Descriptor};
use crate::{Context, Digest};

/// How long the server may take to release a write.
const LET_GO: Duration = Duration::from_secs(5);

/// The known properties of a blob that is being written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ingest<'a> {
    /// The name of the unfinished write.
    pub(super) reference: &'a str,
    /// The digest of the finished blob, if it is known.
    pub(super) digest: Option<&'a Digest>,
    /// The size of the finished blob in bytes, if it is known.
    pub(super) size: Option<u64>,
}

/// An open write. If it is dropped or closed without a commit, its bytes stay for the next write under the same
/// reference.
pub(crate) struct Writer<'a> {
    call: Call<'a>,
    ingest: Ingest<'a>,
    requests: mpsc::Sender<WriteContentRequest>,
    replies: Streaming<WriteContentResponse>,
    /// A message was sent whose reply has not been read yet.
    owed: bool,
    /// How many bytes were sent, including those of earlier writers.
    offset: u64,
}

impl Content {
    /// Opens the write of a known blob under `reference`, at the offset that an earlier write reached. `None` if the
    /// blob exists; then it belongs to the session's lease from now on.
    ///
    /// # Errors
    /// [`Error::is_locked`] if another writer has it open.
    ///
    /// # Cancellation
    /// Safe to drop: an unfinished write is collected with the session's lease.
    pub(crate) async fn writer<'a>(
        &'a self,
        ctx: &'a Context,
        reference: &'a str,
        expected: &'a Descriptor,
    ) -> Result<Option<Writer<'a>>, Error> {
        let call = self.session.call(ctx, "Content/Write", expected.digest.as_str());
        let ingest = Ingest {
            reference,
            digest: Some(&expected.digest),
            size: Some(expected.size),
        };
        self.open(call, ingest).await
    }

    /// How many bytes the unfinished write with this reference has.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn ingested(&self, ctx: &Context, reference: &str) -> Result<u64, Error> {
        let mut client = self.client();
        let message = StatusRequest {
            r#ref: reference.to_owned(),
        };
        let call = self.session.call(ctx, "Content/Status", reference);
        let reply = call
            .read(message, |r| async move { client.status(r).await })
            .await?;
        let status = reply.status.ok_or_else(|| call.malformed("it has no status"))?;
        Ok(u64::try_from(status.offset).unwrap_or(0))
    }

    /// Removes an unfinished write with its bytes.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn abort(&self, ctx: &Context, reference: &str) -> Result<(), Error> {
        let mut client = self.client();
        let message = AbortRequest {
            r#ref: reference.to_owned(),
        };
        self.session
            .call(ctx, "Content/Abort", reference)
            .change(message, |r| async move { client.abort(r).await })
            .await?;
        Ok(())
    }

    /// Opens a write. `None` if the blob exists; then it belongs to the session's lease from now on.
    pub(super) async fn open<'a>(
        &self,
        call: Call<'a>,
        ingest: Ingest<'a>,
    ) -> Result<Option<Writer<'a>>, Error> {
        let mut client = self.client();
        let (requests, outgoing) = mpsc::channel(1);
        // The server answers every message, and only its first answer opens the stream.
        let first = ingest.message(WriteAction::Stat, 0, Vec::new());
        // The stream lasts as long as the source takes to deliver the bytes, so each step is bounded separately.
        let request = call.ceiling(None).request(ReceiverStream::new(outgoing));
        let opening = async {
            let queued = requests.send(first).await;
            debug_assert!(queued.is_ok(), "the channel has room for one");
            let stream = client.write(request).await?;
            let mut replies = stream.into_inner();
            let status = replies.message().await?;
            Ok((replies, status))
        };
        let (replies, status) = match call.exchange(opening).await {
            Err(why) if why.is_already_exists() => return Ok(None),
            opened => opened?,
        };
        let status = status.ok_or_else(|| call.malformed("the stream ended early"))?;
        Ok(Some(Writer {
            call,
            ingest,
            requests,
            replies,
            owed: false,
            offset: u64::try_from(status.offset).unwrap_or(0),
        }))
    }
}

impl Ingest<'_> {
    fn message(&self, action: WriteAction, offset: u64, data: Vec<u8>) -> WriteContentRequest {
        WriteContentRequest {
            action: action.into(),
            r#ref: self.reference.to_owned(),
            total: self.size.map_or(0, wire_size),
            expected: self.digest.map(ToString::to_string).unwrap_or_default(),
            offset: wire_size(offset),
            data,
            ..WriteContentRequest::default()
        }
    }

    fn commit(&self, size: u64, digest: &Digest, labels: &BTreeMap<String, String>) -> WriteContentRequest {
        WriteContentRequest {
            total: wire_size(self.size.unwrap_or(size)),
            expected: digest.to_string(),
            labels: labels.clone().into_iter().collect(),
            ..self.message(WriteAction::Commit, size, Vec::new())
        }
    }
}

impl Writer<'_> {
    /// How many bytes were sent, including those of earlier writers.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Discards the bytes of earlier writers: the next chunk is the first one.
    pub(crate) fn rewind(&mut self) {
        // containerd truncates an unfinished write when a chunk is written at offset 0.
        self.offset = 0;
    }

    /// Sends a chunk. An error may belong to the chunk before it.
    ///
    /// # Cancellation
    /// Not safe to drop: after that the writer cannot be used any more, only dropped.
    pub(crate) async fn write(&mut self, data: Vec<u8>) -> Result<(), Error> {
        let size = data.len() as u64;
        self.send(self.ingest.message(WriteAction::Write, self.offset, data))
            .await?;
        self.offset += size;
        Ok(())
    }

    /// Commits the bytes that were sent under their digest. Unlike [`Content::write`], fails if the blob exists
    /// already.
    ///
    /// # Errors
    /// [`Error::is_failed_precondition`] if the data does not have the expected digest or size.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn commit(
        &mut self,
        digest: &Digest,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        self.send(self.ingest.commit(self.offset, digest, labels)).await?;
        // The server flushes the whole blob to its disk.
        self.call = self.call.ceiling(Some(LONG));
        self.settle().await
    }

    /// Ends the stream and waits until the server has released the write; only then can it be opened again or removed.
    pub(crate) async fn close(self) {
        let Self {
            requests,
            mut replies,
            ..
        } = self;
        drop(requests);
        let ended = async { while let Ok(Some(_)) = replies.message().await {} };
        drop(tokio::time::timeout(LET_GO, ended).await);
    }

    async fn send(&mut self, message: WriteContentRequest) -> Result<(), Error> {
        self.settle().await?;
        let queued = async {
            // If the server has closed the stream, its next reply contains the reason, so the failed send is ignored.
            drop(self.requests.send(message).await);
            Ok(())
        };
        self.call.exchange(queued).await?;
        self.owed = true;
        Ok(())
    }

    /// Takes the reply to the last message, unless it was taken already.
    async fn settle(&mut self) -> Result<(), Error> {
        if !self.owed {
            return Ok(());
        }
        let reply = self.call.exchange(self.replies.message()).await?;
        self.owed = false;
        match reply {
            Some(_) => Ok(()),
            None => Err(self.call.malformed("the stream ended early")),
        }
    }
}

impl std::fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("ingest", &self.ingest)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

pub(super) fn wire_size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
