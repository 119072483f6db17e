//! Fetches the blob of one layer from a registry into the content store.
//!
//! ```text
//! its turn ─► there already? ─► room ─► open the write ─► GET from its offset ─► chunks ─► commit (containerd verifies)
//!                                           ▲                                      │
//!                                           └── broken, stalled: from where it is ─┘
//! ```
//!
//! The unfinished write has the name that containerd's own clients use. So a write that another client has started is
//! continued, and two processes do not fetch the same blob twice.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::course::{Course, Failed};
use super::progress::LayerState;
use super::resolve::source;
use super::work::Work;
use crate::Context;
use crate::containerd::{self, Content, Descriptor, Writer};
use crate::image::Error;
use crate::image::registry;
use crate::metrics::RetryReason;

/// The most bytes in one message to containerd.
const CHUNK: usize = 1 << 20;
/// Received bytes are written at the latest after this time, so that little is lost if this process is killed.
const LINGER: Duration = Duration::from_millis(250);
/// The pause before a broken transfer is resumed.
const PAUSE: Duration = Duration::from_millis(100);
/// How long another process may have a write open without progress, in addition to the time that a registry may be
/// silent.
const OTHERS: Duration = Duration::from_secs(60);
/// How often it is checked whether another process has finished.
const LOOK: Duration = Duration::from_millis(200);

/// Makes sure that the content store has the blob, and that the lease holds it.
///
/// # Cancellation
/// Not safe to drop in the middle of a write to containerd, so callers run it on a task of its own. Interrupting `ctx`
/// unwinds.
pub(super) async fn layer(
    work: &Work,
    ctx: &Context,
    room: &Semaphore,
    blob: &Descriptor,
    at: usize,
) -> Result<(), Error> {
    let fetch = Fetch {
        work,
        ctx,
        blob,
        at,
        reference: format!("layer-{}", blob.digest),
    };
    // Also held while another pull of this process writes it: if that pull ends early, this one continues with its
    // bytes.
    let held = work.scratch.hold_ingest(ctx, &fetch.reference).await;
    held.map_err(fetch.containerd())?;
    let shared = &work.job.shared;
    let _turn = fetch.wait(shared.blobs.take(&blob.digest)).await?;
    if fetch.is_there().await? {
        work.job.reporter.layer(at, LayerState::Exists);
        return Ok(());
    }
    // Neither semaphore is ever closed.
    let _room = fetch.wait(room.acquire()).await?;
    let _room_in_all = fetch.wait(shared.room.acquire()).await?;
    fetch.all().await?;
    work.job.reporter.layer(at, LayerState::Fetched);
    Ok(())
}

struct Fetch<'a> {
    work: &'a Work,
    ctx: &'a Context,
    blob: &'a Descriptor,
    /// The index of the layer.
    at: usize,
    /// The name of the unfinished write.
    reference: String,
}

/// Bytes that are being received from a registry.
struct Stream {
    from: usize,
    body: registry::Body,
    /// The offset of the next byte to receive.
    position: u64,
    /// The bytes that have been received, but not written.
    gathered: Vec<u8>,
    written: Instant,
}

/// Why moving bytes to the writer ended.
enum End {
    /// All bytes are written.
    Complete,
    /// The lease was renewed, so the write must be opened again under the new lease.
    Renewed,
}

impl Fetch<'_> {
    /// Transfers until the blob is complete. A transfer that breaks after new bytes is resumed, which does not count as
    /// a retry. A transfer that breaks without any new byte is resumed with another host; if there is none, it has
    /// failed, and the retry policy decides.
    async fn all(&self) -> Result<(), Error> {
        let mut wrong_hosts = Vec::new();
        let mut course = Course::new();
        loop {
            let from = match self.once(&wrong_hosts, &mut course).await {
                Ok(()) => return Ok(()),
                Err(Failed::Final(why)) => return Err(why),
                Err(Failed::Broken { why, from }) => {
                    self.goes_on(&mut course, why, from)?;
                    self.wait(tokio::time::sleep(PAUSE)).await?;
                    self.work.metrics().retry(RetryReason::Transfer);
                    continue;
                }
                Err(Failed::Wrong { from }) => from,
            };
            // The content is wrong. This may be due to the part that an earlier transfer has written; if there is none,
            // due to the host.
            let resumed = course.resumed == Some(true);
            self.forget().await?;
            course = Course {
                resumed: Some(false),
                ..Course::new()
            };
            // No host has sent anything: the blob is empty, but its digest is not that of an empty blob.
            let nobodys = !resumed && from.is_none();
            if !resumed {
                wrong_hosts.extend(from);
            }
            if nobodys || wrong_hosts.len() >= self.work.repository.hosts() {
                return Err(Error::WrongBlob {
                    image: self.work.job.name.clone(),
                    registry: self.work.repository.registry().to_owned(),
                    blob: self.blob.digest.to_string(),
                });
            }
            self.work.metrics().retry(RetryReason::Transfer);
        }
    }

    /// Prepares the next attempt of a broken transfer, or returns the error if it cannot be resumed.
    fn goes_on(&self, course: &mut Course, why: registry::Error, from: Option<usize>) -> Result<(), Error> {
        let Some(from) = from.filter(|from| course.moved || !course.idle_hosts.contains(from)) else {
            return Err(why.into());
        };
        if !course.moved {
            course.idle_hosts.push(from);
            if course.idle_hosts.len() >= self.work.repository.hosts() {
                return Err(why.into());
            }
            self.work.repository.avoid(from);
        }
        tracing::debug!(why = %crate::chain(&why), reached = course.reached, "a transfer broke; resuming it");
        self.work.job.reporter.failed(&why);
        Ok(())
    }

    /// One transfer until it is complete or breaks.
    async fn once(&self, without: &[usize], course: &mut Course) -> Result<(), Failed> {
        let mut stream: Option<Stream> = None;
        course.moved = false;
        loop {
            let generation = self.work.scratch.generation();
            let content = self.work.scratch.leased().content();
            let Some(mut writer) = self.open(&content).await? else {
                return Ok(());
            };
            if writer.offset() > self.blob.size {
                writer.rewind();
            }
            let begun = writer.offset() > 0;
            course.resumed.get_or_insert(begun);
            course.begins_at(writer.offset());
            let filled = self.fill(&mut writer, &mut stream, without, generation).await;
            course.at(writer.offset());
            match filled {
                Ok(End::Complete) => {
                    let labels: BTreeMap<_, _> = source(self.work).into_iter().collect();
                    let committed = writer.commit(&self.blob.digest, &labels).await;
                    writer.close().await;
                    return match committed {
                        // Another process was faster. Opening the write once more adds the blob to this lease as well.
                        Err(why) if why.is_already_exists() => match self.open(&content).await? {
                            None => Ok(()),
                            Some(writer) => {
                                writer.close().await;
                                Err(self.containerd()(why).into())
                            }
                        },
                        Err(why) if why.is_failed_precondition() => Err(Failed::Wrong {
                            from: stream.map(|stream| stream.from),
                        }),
                        committed => committed.map_err(|why| self.containerd()(why).into()),
                    };
                }
                Ok(End::Renewed) => writer.close().await,
                Err(why) => {
                    writer.close().await;
                    return Err(why);
                }
            }
        }
    }

    /// Moves bytes from the registry to the writer until the blob is complete.
    async fn fill(
        &self,
        writer: &mut Writer<'_>,
        stream: &mut Option<Stream>,
        without: &[usize],
        generation: usize,
    ) -> Result<End, Failed> {
        self.report(writer.offset());
        while writer.offset() < self.blob.size {
            let fits = |stream: &Stream| stream.begins() <= writer.offset();
            if !stream.as_ref().is_some_and(fits) {
                *stream = Some(self.stream(writer.offset(), without).await?);
            }
            let Some(stream) = stream.as_mut() else { continue };
            let read = self.gather(stream).await;
            let begins = stream.begins();
            let mut gathered = std::mem::take(&mut stream.gathered);
            // A host that cannot start in the middle sends the bytes again that are already here.
            let known = writer.offset().saturating_sub(begins);
            let known = usize::try_from(known).unwrap_or(usize::MAX).min(gathered.len());
            gathered.drain(..known);
            if !gathered.is_empty() {
                stream.written = Instant::now();
                let written = writer.write(gathered).await;
                written.map_err(self.containerd())?;
                self.report(writer.offset());
            }
            if !read? && writer.offset() < self.blob.size {
                return Err(Failed::Broken {
                    why: registry::Error::Broken {
                        host: self.work.repository.registry().to_owned(),
                        what: format!("blob {}", self.blob.digest),
                        source: "it ended early".into(),
                    },
                    from: Some(stream.from),
                });
            }
            if self.work.scratch.generation() != generation {
                return Ok(End::Renewed);
            }
        }
        Ok(End::Complete)
    }

    async fn stream(&self, offset: u64, without: &[usize]) -> Result<Stream, Failed> {
        let blob = self.work.repository.blob(self.ctx, self.blob, offset, without);
        let registry::Blob { body, offset, from } = blob.await.map_err(|why| Failed::of_stream(why, None))?;
        Ok(Stream {
            from,
            body,
            position: offset,
            gathered: Vec::new(),
            written: Instant::now(),
        })
    }

    /// Reads until there is enough for a message, or until the time for gathering has passed. Returns `false` at the
    /// end of the stream. Bytes that were gathered before an error are valid.
    async fn gather(&self, stream: &mut Stream) -> Result<bool, Failed> {
        loop {
            let part = stream.body.chunk(self.ctx).await;
            let Some(part) = part.map_err(|why| Failed::of_stream(why, Some(stream.from)))? else {
                return Ok(false);
            };
            stream.position += part.len() as u64;
            if stream.position > self.blob.size {
                return Err(Failed::Wrong {
                    from: Some(stream.from),
                });
            }
            if stream.gathered.capacity() == 0 {
                stream.gathered.reserve_exact(CHUNK + part.len());
            }
            stream.gathered.extend_from_slice(&part);
            let enough = stream.gathered.len() >= CHUNK
                || stream.position == self.blob.size
                || stream.written.elapsed() >= LINGER;
            if enough {
                return Ok(true);
            }
        }
    }

    /// Opens the write, once no other process has it open. Returns `None` if the blob exists.
    async fn open<'c>(&'c self, content: &'c Content) -> Result<Option<Writer<'c>>, Error> {
        // The process that has it open may be waiting for a registry that limits its rate.
        let limit = self.work.job.shared.settings.registries.stall + OTHERS;
        let (mut reached, mut since) = (0, Instant::now());
        loop {
            let opened = content.writer(self.ctx, &self.reference, self.blob).await;
            match opened {
                Err(why) if why.is_locked() => {}
                opened => return opened.map_err(self.containerd()),
            }
            let there = match content.ingested(self.ctx, &self.reference).await {
                Err(why) if why.is_not_found() || why.is_locked() => reached,
                there => there.map_err(self.containerd())?,
            };
            if there != reached {
                (reached, since) = (there, Instant::now());
                self.report(reached);
            } else if since.elapsed() >= limit {
                return Err(Error::Blocked {
                    image: self.work.job.name.clone(),
                    blob: self.blob.digest.to_string(),
                });
            }
            self.wait(tokio::time::sleep(LOOK)).await?;
        }
    }

    /// Removes what has been written so far.
    async fn forget(&self) -> Result<(), Error> {
        let content = self.work.scratch.leased().content();
        match content.abort(self.ctx, &self.reference).await {
            Err(why) if why.is_not_found() => Ok(()),
            aborted => aborted.map_err(self.containerd()),
        }
    }

    async fn is_there(&self) -> Result<bool, Error> {
        let digest = &self.blob.digest;
        // Held first and checked second, so that a blob which exists now is kept.
        let held = self.work.scratch.hold_blob(self.ctx, digest).await;
        held.map_err(self.containerd())?;
        let content = self.work.scratch.leased().content();
        match content.info(self.ctx, digest).await {
            Err(why) if why.is_not_found() => Ok(false),
            Err(why) => Err(self.containerd()(why)),
            Ok(_) => Ok(true),
        }
    }

    fn report(&self, reached: u64) {
        self.work
            .job
            .reporter
            .layer(self.at, LayerState::Downloading(reached));
    }

    async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let done = self.ctx.run(work).await;
        done.map_err(|source| self.work.job.not_pulled(source))
    }

    fn containerd(&self) -> impl FnOnce(containerd::Error) -> Error {
        Error::containerd(&self.work.job.name)
    }
}

impl Stream {
    /// The offset of the first gathered byte.
    fn begins(&self) -> u64 {
        self.position - self.gathered.len() as u64
    }
}
