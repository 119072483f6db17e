//! Passes the output of a container to every reader that has joined.
//!
//! Each chunk of output is stored once, until every reader that had joined before it has taken it, so memory does not
//! grow with the number of readers. A slow reader slows the container's output down, as the reader of a pipe does. A
//! reader that takes nothing at all is cut off after [`STALL`].

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::stdio::{Sink, Stream};

/// How far a reader may fall behind, in bytes, before the output waits for it.
const BACKLOG: usize = 1 << 20;
/// The memory of a chunk in addition to its bytes, so that a container that writes single bytes stays within
/// [`BACKLOG`] too.
const OVERHEAD: usize = 64;
/// How long the output waits for a reader that takes nothing.
pub(super) const STALL: Duration = Duration::from_secs(5);

/// The output of one container, for any number of readers. Clones refer to the same output.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<State>>);

/// A part of the output, as the container wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The stream that it was written to.
    pub(crate) stream: Stream,
    /// What was written.
    pub(crate) bytes: Arc<[u8]>,
}

/// Which streams a reader gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wants {
    /// Standard output.
    pub(crate) stdout: bool,
    /// Standard error.
    pub(crate) stderr: bool,
}

impl Wants {
    /// Both streams.
    pub(crate) const ALL: Self = Self {
        stdout: true,
        stderr: true,
    };

    fn takes(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdin => false,
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

/// Why a reader gets no more output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The container's streams have ended, and the reader has all of them.
    Ended,
    /// The reader took nothing for too long. The container runs on.
    CutOff,
    /// The process that holds the streams has ended, or has given them up. The container may run on.
    HolderGone,
}

/// A reader of the output. Dropping it ends the reading.
#[derive(Debug)]
pub(crate) struct Listener {
    hub: Hub,
    key: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The chunks that some reader has not taken, oldest first.
    chunks: VecDeque<Held>,
    /// The number of the first of them, counted from the hub's beginning.
    first: u64,
    /// The cost of all chunks that ever came.
    written: u64,
    readers: BTreeMap<u64, Reader>,
    next_key: u64,
    /// The sinks of the current run that have not ended.
    open: usize,
    /// Whether a sink of the current run was given up before its stream had ended.
    given_up: bool,
    /// The sinks that wait for a slow reader.
    waiting: Vec<Waker>,
}

#[derive(Debug)]
struct Held {
    chunk: Chunk,
    /// How many readers have not taken it.
    left: usize,
}

#[derive(Debug)]
struct Reader {
    wants: Wants,
    /// The number of the chunk that it takes next.
    next: u64,
    /// The cost of the chunks that it has taken, or that came before it.
    taken: u64,
    /// When it last took a chunk, or began to have one to take.
    moved: Instant,
    /// Whether a run was under way at any time since it joined.
    began: bool,
    cut_off: bool,
    waker: Option<Waker>,
}

impl Hub {
    /// The destination of one of the container's streams during its next run.
    pub(crate) fn sink(&self, stream: Stream) -> Sink {
        Sink::Writer(Box::new(self.writer(stream)))
    }

    /// Like [`Self::sink`], for a caller that writes to something else too.
    pub(crate) fn writer(&self, stream: Stream) -> HubWriter {
        let mut state = self.state();
        if state.open == 0 {
            state.given_up = false;
        }
        state.open += 1;
        for reader in state.readers.values_mut() {
            reader.began = true;
        }
        HubWriter {
            hub: self.clone(),
            stream,
            patience: None,
            is_open: true,
        }
    }

    /// Joins: the reader gets all that the container writes from now on, until the end of the run, or of the next one
    /// if there is none.
    pub(crate) fn listen(&self, wants: Wants) -> Listener {
        let mut state = self.state();
        let key = state.next_key;
        state.next_key += 1;
        let reader = Reader {
            wants,
            next: state.first + state.chunks.len() as u64,
            taken: state.written,
            moved: Instant::now(),
            began: state.open > 0,
            cut_off: false,
            waker: None,
        };
        state.readers.insert(key, reader);
        Listener {
            hub: self.clone(),
            key,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps a chunk for the readers, and wakes them.
    fn push(&mut self, chunk: Chunk) {
        let (mut left, now, written) = (0, Instant::now(), self.written);
        for reader in self.readers.values_mut().filter(|reader| !reader.cut_off) {
            left += 1;
            if reader.taken == written {
                reader.moved = now;
            }
            if let Some(waker) = reader.waker.take() {
                waker.wake();
            }
        }
        self.written += cost(&chunk);
        match left {
            // There is no reader for it.
            0 => self.first += 1,
            _ => self.chunks.push_back(Held { chunk, left }),
        }
    }

    /// Takes the next chunk that a reader wants.
    fn take(&mut self, key: u64) -> Option<Chunk> {
        loop {
            let reader = self.readers.get_mut(&key).filter(|reader| !reader.cut_off)?;
            let at = usize::try_from(reader.next - self.first).ok()?;
            let held = self.chunks.get_mut(at)?;
            let chunk = held.chunk.clone();
            held.left -= 1;
            reader.next += 1;
            reader.taken += cost(&chunk);
            reader.moved = Instant::now();
            let wanted = reader.wants.takes(chunk.stream);
            self.trim();
            if wanted {
                return Some(chunk);
            }
        }
    }

    /// Releases the chunks from `next` on that a reader has not taken.
    fn forsake(&mut self, next: u64) {
        let from = usize::try_from(next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        for held in self.chunks.iter_mut().skip(from) {
            held.left -= 1;
        }
        self.trim();
    }

    /// Drops the chunks that every reader has taken, and wakes the sinks.
    fn trim(&mut self) {
        while self.chunks.front().is_some_and(|held| held.left == 0) {
            self.chunks.pop_front();
            self.first += 1;
        }
        self.waiting.drain(..).for_each(Waker::wake);
    }

    /// When the output stops waiting for the slow readers; `None` if there is none.
    fn waits_until(&self) -> Option<Instant> {
        let slow = self.readers.values().filter(|reader| self.is_slow(reader));
        slow.map(|reader| reader.moved + STALL).min()
    }

    fn is_slow(&self, reader: &Reader) -> bool {
        !reader.cut_off && self.written - reader.taken >= BACKLOG as u64
    }

    /// Cuts off the readers that have taken nothing for too long.
    fn cut_off(&mut self) {
        let now = Instant::now();
        let slow = self.readers.iter().filter(|(_, reader)| self.is_slow(reader));
        let stalled = slow.filter(|(_, reader)| reader.moved + STALL <= now);
        let stalled: Vec<_> = stalled.map(|(key, _)| *key).collect();
        for key in stalled {
            if let Some(reader) = self.readers.get_mut(&key) {
                reader.cut_off = true;
                let next = reader.next;
                if let Some(waker) = reader.waker.take() {
                    waker.wake();
                }
                self.forsake(next);
            }
        }
    }

    /// A sink has ended, or is given up.
    fn close(&mut self, is_given_up: bool) {
        self.given_up |= is_given_up;
        self.open -= 1;
        if self.open == 0 {
            self.readers
                .values_mut()
                .filter_map(|reader| reader.waker.take())
                .for_each(Waker::wake);
        }
    }
}

fn cost(chunk: &Chunk) -> u64 {
    (chunk.bytes.len() + OVERHEAD) as u64
}

impl Listener {
    /// The next part of the output.
    ///
    /// # Errors
    /// [`Over`] is the reason why there is none.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn next(&mut self) -> Result<Chunk, Over> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Waits for the next holder of the streams after [`Over::HolderGone`]. Nothing that it passes on is missed.
    pub(crate) fn rejoin(&mut self) {
        let mut state = self.hub.state();
        let began = state.open > 0;
        if let Some(reader) = state.readers.get_mut(&self.key) {
            reader.began = began;
        }
    }

    fn poll_next(&mut self, cx: &TaskContext<'_>) -> Poll<Result<Chunk, Over>> {
        let mut state = self.hub.state();
        if let Some(chunk) = state.take(self.key) {
            return Poll::Ready(Ok(chunk));
        }
        let (is_open, given_up) = (state.open > 0, state.given_up);
        let Some(reader) = state.readers.get_mut(&self.key) else {
            return Poll::Ready(Err(Over::Ended));
        };
        if reader.cut_off {
            return Poll::Ready(Err(Over::CutOff));
        }
        if reader.began && !is_open {
            return Poll::Ready(Err(if given_up { Over::HolderGone } else { Over::Ended }));
        }
        reader.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        if let Some(reader) = state.readers.remove(&self.key)
            && !reader.cut_off
        {
            state.forsake(reader.next);
        }
    }
}

/// The writing end of one stream. A write never fails. Shutting it down is the end of the stream; dropping it before
/// that gives the stream up.
#[derive(Debug)]
pub(crate) struct HubWriter {
    hub: Hub,
    stream: Stream,
    /// Ends when a slow reader is to be cut off.
    patience: Option<Pin<Box<Sleep>>>,
    is_open: bool,
}

impl AsyncWrite for HubWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let hub = self.hub.clone();
            let mut state = hub.state();
            let Some(until) = state.waits_until() else {
                self.patience = None;
                if !state.readers.is_empty() {
                    let chunk = Chunk {
                        stream: self.stream,
                        bytes: buf.into(),
                    };
                    state.push(chunk);
                }
                return Poll::Ready(Ok(buf.len()));
            };
            state.waiting.push(cx.waker().clone());
            let patience = self.patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if patience.deadline() != until {
                patience.as_mut().reset(until);
            }
            match patience.as_mut().poll(cx) {
                Poll::Ready(()) => state.cut_off(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.close(false);
        Poll::Ready(Ok(()))
    }
}

impl HubWriter {
    fn close(&mut self, is_given_up: bool) {
        if std::mem::take(&mut self.is_open) {
            self.hub.state().close(is_given_up);
        }
    }
}

impl Drop for HubWriter {
    fn drop(&mut self) {
        self.close(true);
    }
}
