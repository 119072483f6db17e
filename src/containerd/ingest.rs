//! How a blob gets into the content store: a stream of chunks, committed under its digest.
//!
//! containerd computes the digest and refuses to commit another one. A blob that exists already is a success, not an
//! error, and belongs to the session's lease from then on, as one that was written does.
//!
//! The context is looked at between two chunks, never in the middle of one: a write that is given up is then known to
//! be idle, and can be removed.

use std::collections::BTreeMap;
use std::time::Duration;

use containerd_client::services::v1::{AbortRequest, WriteAction, WriteContentRequest, WriteContentResponse};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use super::call::{Call, LONG};
use super::error::{Cause, Error};
use super::{Content, Descriptor};
use crate::{Context, Digest};

/// The most that one message carries.
const CHUNK: usize = 1 << 20;
/// How long an abandoned write may take to be removed.
const GRACE: Duration = Duration::from_secs(5);

/// A blob on its way in.
#[derive(Debug, Clone, Copy)]
struct Ingest<'a> {
    reference: &'a str,
    digest: Option<&'a Digest>,
    size: Option<u64>,
    labels: &'a BTreeMap<String, String>,
}

/// What became of it.
#[derive(Debug)]
enum Written {
    /// It existed, and nothing was read.
    Present,
    /// It was read to its end and exists now.
    New(Digest, u64),
}

impl Content {
    /// Writes the blob `expected` from `reader`. Nothing is left behind when it fails; existing is success, and then
    /// the reader may not have been read. `reference` names the unfinished write: one writer at a time may use it.
    ///
    /// # Errors
    /// [`Error::is_failed_precondition`] if the data does not have that digest or that size.
    ///
    /// # Cancellation
    /// Safe to drop: an unfinished write is collected with the session's lease.
    pub(crate) async fn write(
        &self,
        ctx: &Context,
        reference: &str,
        expected: &Descriptor,
        labels: &BTreeMap<String, String>,
        reader: impl AsyncRead + Unpin,
    ) -> Result<(), Error> {
        let ingest = Ingest {
            reference,
            digest: Some(&expected.digest),
            size: Some(expected.size),
            labels,
        };
        let call = self.session.call(ctx, "Content/Write", expected.digest.as_str());
        self.store(call, &ingest, reader).await.map(|_| ())
    }

    /// Writes a blob whose digest nobody knows yet, and says its digest and size.
    ///
    /// # Errors
    /// As every call.
    ///
    /// # Cancellation
    /// Safe to drop: an unfinished write is collected with the session's lease.
    pub(crate) async fn ingest(
        &self,
        ctx: &Context,
        reference: &str,
        labels: &BTreeMap<String, String>,
        reader: impl AsyncRead + Unpin,
    ) -> Result<(Digest, u64), Error> {
        let ingest = Ingest {
            reference,
            digest: None,
            size: None,
            labels,
        };
        let call = self.session.call(ctx, "Content/Write", reference);
        match self.store(call, &ingest, reader).await? {
            Written::New(digest, size) => Ok((digest, size)),
            Written::Present => Err(call.malformed("it knows a blob that nobody has named")),
        }
    }

    /// Streams the data in, and aborts the unfinished write if that fails.
    async fn store(
        &self,
        call: Call<'_>,
        ingest: &Ingest<'_>,
        reader: impl AsyncRead + Unpin,
    ) -> Result<Written, Error> {
        let call = call.ceiling(Some(LONG));
        let why = match self.open(call, ingest).await {
            Ok(None) => return Ok(Written::Present),
            Ok(Some((mut upload, status))) => {
                let filled = self.fill(call, ingest, &mut upload, &status, reader).await;
                upload.close().await;
                match filled {
                    Err(why) => why,
                    written => return written,
                }
            }
            Err(why) => why,
        };
        let grace = Context::timeout(GRACE);
        if let Err(left) = self.abort(&grace, ingest.reference).await
            && !left.is_not_found()
        {
            tracing::debug!(%left, "an unfinished write is left to the garbage collector");
        }
        Err(why)
    }

    async fn fill(
        &self,
        call: Call<'_>,
        ingest: &Ingest<'_>,
        upload: &mut Upload<'_>,
        status: &WriteContentResponse,
        mut reader: impl AsyncRead + Unpin,
    ) -> Result<Written, Error> {
        // All of it is there already when another containerd namespace has the blob.
        if let (Some(digest), Some(size)) = (ingest.digest, ingest.size)
            && size > 0
            && wire_size(size) == status.offset
        {
            upload.say(ingest.commit(size, digest)).await?;
            return Ok(Written::New(digest.clone(), size));
        }
        // A digest that nobody knows is computed here: containerd would not tell it if the blob exists already.
        let mut known = ingest.digest.ok_or_else(Sha256::new);
        let mut size = 0_u64;
        loop {
            let chunk = call
                .run(chunk(&mut reader))
                .await?
                .map_err(|why| call.error(Cause::Input(why)))?;
            if chunk.is_empty() {
                break;
            }
            if let Err(hash) = &mut known {
                hash.update(&chunk);
            }
            let offset = size;
            size += chunk.len() as u64;
            match upload
                .say(ingest.message(WriteAction::Write, offset, chunk))
                .await
            {
                Err(why) if why.is_already_exists() => return self.overtaken(call, ingest, why).await,
                said => drop(said?),
            }
        }
        let digest = match known {
            Ok(known) => known.clone(),
            Err(hash) => Digest::new(format!("sha256:{:x}", hash.finalize()))
                .map_err(|why| call.malformed(why.to_string()))?,
        };
        match upload.say(ingest.commit(size, &digest)).await {
            Err(why) if why.is_already_exists() => {
                let named = Ingest {
                    digest: Some(&digest),
                    ..*ingest
                };
                self.overtaken(call, &named, why).await?;
            }
            said => drop(said?),
        }
        Ok(Written::New(digest, size))
    }

    /// Somebody else wrote the same blob faster. Opening it once more is what gives it to our lease as well.
    async fn overtaken(&self, call: Call<'_>, ingest: &Ingest<'_>, why: Error) -> Result<Written, Error> {
        match self.open(call, ingest).await? {
            None => Ok(Written::Present),
            Some((upload, _)) => {
                upload.close().await;
                Err(why)
            }
        }
    }

    /// Opens a write. `None` if the blob exists: it belongs to our lease from then on.
    async fn open<'a>(
        &self,
        call: Call<'a>,
        ingest: &Ingest<'_>,
    ) -> Result<Option<(Upload<'a>, WriteContentResponse)>, Error> {
        let mut client = self.client();
        let (requests, outgoing) = mpsc::channel(1);
        // The server answers every message, and only its first answer opens the stream.
        let first = ingest.message(WriteAction::Stat, 0, Vec::new());
        let opening = async {
            let queued = requests.send(first).await;
            debug_assert!(queued.is_ok(), "the channel has room for one");
            let stream = client.write(call.request(ReceiverStream::new(outgoing))).await?;
            let mut replies = stream.into_inner();
            let status = replies.message().await?;
            Ok((replies, status))
        };
        let (replies, status) = match call.exchange(opening).await {
            Err(why) if why.is_already_exists() => return Ok(None),
            opened => opened?,
        };
        let status = status.ok_or_else(|| call.malformed("the stream ended early"))?;
        let upload = Upload {
            call,
            requests,
            replies,
        };
        Ok(Some((upload, status)))
    }

    async fn abort(&self, ctx: &Context, reference: &str) -> Result<(), Error> {
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

    fn commit(&self, size: u64, digest: &Digest) -> WriteContentRequest {
        WriteContentRequest {
            total: wire_size(self.size.unwrap_or(size)),
            expected: digest.to_string(),
            labels: self.labels.clone().into_iter().collect(),
            ..self.message(WriteAction::Commit, size, Vec::new())
        }
    }
}

/// A write in progress.
struct Upload<'a> {
    call: Call<'a>,
    requests: mpsc::Sender<WriteContentRequest>,
    replies: Streaming<WriteContentResponse>,
}

impl Upload<'_> {
    /// Ends the stream and waits until the server has let go of the write: only then can it be removed.
    async fn close(self) {
        let Self {
            requests,
            mut replies,
            ..
        } = self;
        drop(requests);
        let ended = async { while let Ok(Some(_)) = replies.message().await {} };
        drop(tokio::time::timeout(GRACE, ended).await);
    }

    /// Sends a message and takes the reply to it.
    async fn say(&mut self, message: WriteContentRequest) -> Result<WriteContentResponse, Error> {
        let Self {
            call,
            requests,
            replies,
        } = self;
        let reply = call
            .exchange(async {
                // A stream that the server has closed says why in its next reply, so the failure to send is not it.
                drop(requests.send(message).await);
                replies.message().await
            })
            .await?;
        reply.ok_or_else(|| call.malformed("the stream ended early"))
    }
}

/// Up to [`CHUNK`] bytes, as many as there are: small reads would each cost a message.
async fn chunk(reader: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut chunk = Vec::new();
    reader.take(CHUNK as u64).read_to_end(&mut chunk).await?;
    Ok(chunk)
}

fn wire_size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
