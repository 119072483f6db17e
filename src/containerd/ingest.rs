//! Writing a blob into the content store: a stream of chunks, committed under its digest.
//!
//! containerd computes the digest and refuses to commit under another one. If the blob exists already, the write
//! succeeds, and the blob belongs to the session's lease from then on, as if it had been written.
//!
//! The context is checked between two chunks, never in the middle of one: a write that is given up is then certainly
//! idle, and can be removed.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::call::Call;
use super::error::{Cause, Error};
use super::writer::{Ingest, Writer};
use super::{Content, Descriptor};
use crate::{Context, Digest};

/// The largest amount of data in one message.
const CHUNK: usize = 1 << 20;
/// How long removing an abandoned write may take.
const GRACE: Duration = Duration::from_secs(5);

/// The result of a write.
#[derive(Debug)]
enum Written {
    /// The blob existed, and nothing was read.
    Present,
    /// The data was read to its end, and the blob exists now.
    New(Digest, u64),
}

impl Content {
    /// Writes the blob `expected` from `reader`. Leaves nothing behind if it fails. Succeeds if the blob exists
    /// already; then the reader may not have been read. `reference` names the unfinished write; only one writer at a
    /// time may use it.
    ///
    /// # Errors
    /// [`Error::is_failed_precondition`] if the data does not have the expected digest or size.
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
        };
        let call = self.session.call(ctx, "Content/Write", expected.digest.as_str());
        self.store(call, ingest, labels, reader).await.map(|_| ())
    }

    /// Writes a blob whose digest is not known yet, and returns its digest and size.
    ///
    /// # Errors
    /// Those of every call.
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
        };
        let call = self.session.call(ctx, "Content/Write", reference);
        match self.store(call, ingest, labels, reader).await? {
            Written::New(digest, size) => Ok((digest, size)),
            Written::Present => Err(call.malformed("it reports a blob that was not named")),
        }
    }

    /// Streams the data to containerd, and aborts the unfinished write if that fails.
    async fn store(
        &self,
        call: Call<'_>,
        ingest: Ingest<'_>,
        labels: &BTreeMap<String, String>,
        reader: impl AsyncRead + Unpin,
    ) -> Result<Written, Error> {
        let why = match self.open(call, ingest).await {
            Ok(None) => return Ok(Written::Present),
            Ok(Some(mut writer)) => {
                let filled = self.fill(call, ingest, labels, &mut writer, reader).await;
                writer.close().await;
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
            tracing::debug!(%left, "cannot abort an unfinished write; the garbage collector will remove it");
        }
        Err(why)
    }

    async fn fill(
        &self,
        call: Call<'_>,
        ingest: Ingest<'_>,
        labels: &BTreeMap<String, String>,
        writer: &mut Writer<'_>,
        mut reader: impl AsyncRead + Unpin,
    ) -> Result<Written, Error> {
        // If another containerd namespace has the blob, all of its bytes are there already.
        if let (Some(digest), Some(size)) = (ingest.digest, ingest.size)
            && size > 0
            && size == writer.offset()
        {
            writer.commit(digest, labels).await?;
            return Ok(Written::New(digest.clone(), size));
        }
        writer.rewind();
        // An unknown digest is computed here, because containerd would not return it if the blob exists already.
        let mut known = ingest.digest.ok_or_else(Sha256::new);
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
            match writer.write(chunk).await {
                Err(why) if why.is_already_exists() => return self.overtaken(call, ingest, why).await,
                written => written?,
            }
        }
        let digest = match known {
            Ok(known) => known.clone(),
            Err(hash) => Digest::new(format!("sha256:{:x}", hash.finalize()))
                .map_err(|why| call.malformed(why.to_string()))?,
        };
        match writer.commit(&digest, labels).await {
            Err(why) if why.is_already_exists() => {
                let named = Ingest {
                    digest: Some(&digest),
                    ..ingest
                };
                self.overtaken(call, named, why).await?;
            }
            committed => committed?,
        }
        Ok(Written::New(digest, writer.offset()))
    }

    /// Another client finished writing the same blob first. Opening it once more adds it to this session's lease as
    /// well.
    async fn overtaken(&self, call: Call<'_>, ingest: Ingest<'_>, why: Error) -> Result<Written, Error> {
        match self.open(call, ingest).await? {
            None => Ok(Written::Present),
            Some(writer) => {
                writer.close().await;
                Err(why)
            }
        }
    }
}

/// Reads up to [`CHUNK`] bytes, fewer only at the end of the data: each small read would cost a message.
async fn chunk(reader: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut chunk = Vec::new();
    reader.take(CHUNK as u64).read_to_end(&mut chunk).await?;
    Ok(chunk)
}
