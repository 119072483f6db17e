//! The uncompressed tar of a layer's blob. It is decompressed on a separate thread while the blob is read from the
//! content store, in constant memory and without using a disk.
//!
//! ```text
//! content store ─► parts ─► thread: decompress ─► chunks ─► the reader
//! ```

use std::io::{self, BufRead, Read};

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::Error;
use crate::compression::Compression;
use crate::containerd::{Content, Parts};
use crate::{Context, Digest};

/// How many bytes are decompressed at once.
const CHUNK: usize = 256 << 10;
/// How many parts and chunks may be queued.
const QUEUED: usize = 4;

/// A layer's blob and its compression.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub(super) blob: Digest,
    pub(super) compression: Compression,
}

/// The bytes of an uncompressed tar, as a stream.
pub(super) struct Bare<'a> {
    packed: &'a Packed,
    parts: Parts<'a>,
    /// `None` once all parts have been passed to the thread.
    feeding: Option<mpsc::Sender<Vec<u8>>>,
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
}

impl Packed {
    /// Starts to decompress.
    ///
    /// # Cancellation
    /// Safe to drop, also the returned value: the thread ends by itself.
    pub(super) async fn open<'a>(
        &'a self,
        ctx: &'a Context,
        content: &'a Content,
    ) -> Result<Bare<'a>, Error> {
        let parts = content.stream(ctx, &self.blob).await;
        let (feeding, fed) = mpsc::channel(QUEUED);
        let (sender, chunks) = mpsc::channel(QUEUED);
        let compression = self.compression;
        // The thread ends with the channels, because it then has nothing to read or cannot send.
        drop(tokio::task::spawn_blocking(move || {
            if let Err(why) = decompress(compression, fed, &sender) {
                drop(sender.blocking_send(Err(why)));
            }
        }));
        Ok(Bare {
            packed: self,
            parts: parts.map_err(Error::store(format!("blob {}", self.blob)))?,
            feeding: Some(feeding),
            chunks,
        })
    }

    /// The digest and the size of the uncompressed tar, for which all of it is read.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn measure(&self, ctx: &Context, content: &Content) -> Result<(String, u64), Error> {
        let mut bare = self.open(ctx, content).await?;
        let (mut hash, mut size) = (Sha256::new(), 0);
        while let Some(chunk) = bare.next().await? {
            hash.update(&chunk);
            size += chunk.len() as u64;
        }
        Ok((format!("sha256:{:x}", hash.finalize()), size))
    }
}

impl Bare<'_> {
    /// The next bytes; `None` at the end.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            tokio::select! {
                biased;
                chunk = self.chunks.recv() => {
                    return chunk.transpose().map_err(|why| Error::NotSaved {
                        source: io::Error::new(why.kind(), format!("{} cannot be decompressed: {why}", self.packed.blob)),
                    });
                }
                fed = feed(&mut self.feeding, &mut self.parts), if self.feeding.is_some() => {
                    fed.map_err(Error::store(format!("blob {}", self.packed.blob)))?;
                }
            }
        }
    }
}

/// Passes one more part to the thread. If the thread accepts no more, it has sent an error or needs no more.
async fn feed(
    feeding: &mut Option<mpsc::Sender<Vec<u8>>>,
    parts: &mut Parts<'_>,
) -> Result<(), crate::containerd::Error> {
    let Some(sender) = feeding.as_ref() else {
        return Ok(());
    };
    if let Ok(room) = sender.reserve().await
        && let Some(part) = parts.next().await?
    {
        room.send(part);
    } else {
        *feeding = None;
    }
    Ok(())
}

fn decompress(
    compression: Compression,
    fed: mpsc::Receiver<Vec<u8>>,
    chunks: &mpsc::Sender<io::Result<Vec<u8>>>,
) -> io::Result<()> {
    let mut reader = compression.reader(Fed {
        parts: fed,
        part: io::Cursor::default(),
    })?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        (&mut reader).take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() || chunks.blocking_send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
}

/// Makes the received parts readable for the thread.
struct Fed {
    parts: mpsc::Receiver<Vec<u8>>,
    part: io::Cursor<Vec<u8>>,
}

impl BufRead for Fed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.part.position() == self.part.get_ref().len() as u64 {
            match self.parts.blocking_recv() {
                Some(part) => self.part = io::Cursor::new(part),
                None => break,
            }
        }
        self.part.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.part.consume(count);
    }
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), ready.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::zstd;
    use super::*;

    #[tokio::test]
    async fn what_is_fed_in_small_parts_comes_out_whole() {
        let text = b"a layer ".repeat(100_000);
        let (feeding, fed) = mpsc::channel(2);
        let (sender, mut chunks) = mpsc::channel(2);
        let thread = tokio::task::spawn_blocking(move || decompress(Compression::Zstd, fed, &sender));
        let frame = zstd(&text);
        let feed = async {
            for part in frame.chunks(1000) {
                feeding.send(part.to_vec()).await.unwrap();
            }
            drop(feeding);
        };
        let take = async {
            let mut out = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                out.extend(chunk.unwrap());
            }
            out
        };
        let ((), out) = tokio::join!(feed, take);
        assert_eq!(out, text);
        thread.await.unwrap().unwrap();
    }
}
