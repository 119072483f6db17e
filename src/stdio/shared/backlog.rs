//! The output that a container's readers have not taken yet, and how far each of them is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::stdio::Stream;

/// How far a reader may fall behind, in bytes, before the output waits for it.
const BACKLOG: usize = 1 << 20;
/// The memory of a chunk in addition to its bytes, so that a container that writes single bytes stays within
/// [`BACKLOG`] too.
const OVERHEAD: usize = 64;
/// How long the output waits for a reader that takes nothing.
pub(super) const STALL: Duration = Duration::from_secs(5);

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

/// What the readers of one container's output have not taken.
#[derive(Debug, Default)]
pub(super) struct Backlog {
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
    /// Whether the process of the current run has ended.
    has_exited: bool,
    /// The sinks that wait for a slow reader.
    waiting: Vec<Waker>,
}

/// How the output flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pace {
    /// It waits for a reader, which is cut off at that time.
    WaitsUntil(Instant),
    /// It waits for a reader that is not cut off.
    Waits,
    /// No reader is slow.
    Flows,
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
    /// Whether the output waits for it as long as it takes.
    is_waited_for: bool,
    cut_off: bool,
    waker: Option<Waker>,
}

impl Backlog {
    /// A sink of the next run begins, or another one of the current run.
    pub(super) fn open(&mut self) {
        if self.open == 0 {
            self.given_up = false;
            self.has_exited = false;
        }
        self.open += 1;
        for reader in self.readers.values_mut() {
            reader.began = true;
        }
    }

    /// A sink has ended, or is given up.
    pub(super) fn close(&mut self, is_given_up: bool) {
        self.given_up |= is_given_up;
        self.open -= 1;
        if self.open == 0 {
            self.wake_readers();
        }
    }

    /// Ends the output for the readers that wait for the next run. During a run, it does nothing, and returns `false`.
    pub(super) fn end(&mut self) -> bool {
        if self.open > 0 {
            return false;
        }
        self.given_up = false;
        for reader in self.readers.values_mut() {
            reader.began = true;
        }
        self.wake_readers();
        true
    }

    /// Adds a reader of everything from now on; returns its key.
    pub(super) fn join(&mut self, wants: Wants, is_waited_for: bool) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        let reader = Reader {
            wants,
            next: self.first + self.chunks.len() as u64,
            taken: self.written,
            moved: Instant::now(),
            began: self.open > 0,
            is_waited_for,
            cut_off: false,
            waker: None,
        };
        self.readers.insert(key, reader);
        key
    }

    /// A reader that was told that the holder of the streams is gone waits for the next one.
    pub(super) fn rejoin(&mut self, key: u64) {
        let began = self.open > 0;
        if let Some(reader) = self.readers.get_mut(&key) {
            reader.began = began;
        }
    }

    /// Whether a run was under way at any time since a reader joined.
    pub(super) fn has_begun(&self, key: u64) -> bool {
        self.readers.get(&key).is_some_and(|reader| reader.began)
    }

    /// Removes a reader.
    pub(super) fn leave(&mut self, key: u64) {
        if let Some(reader) = self.readers.remove(&key)
            && !reader.cut_off
        {
            self.forsake(reader.next);
        }
    }

    /// Whether there is any reader.
    pub(super) fn has_readers(&self) -> bool {
        !self.readers.is_empty()
    }

    /// The next chunk for a reader, which is woken when there may be one.
    pub(super) fn poll(&mut self, key: u64, waker: &Waker) -> Poll<Result<Chunk, Over>> {
        if let Some(chunk) = self.take(key) {
            return Poll::Ready(Ok(chunk));
        }
        let Some(reader) = self.readers.get_mut(&key) else {
            return Poll::Ready(Err(Over::Ended));
        };
        if reader.cut_off {
            return Poll::Ready(Err(Over::CutOff));
        }
        if reader.began && self.open == 0 {
            return Poll::Ready(Err(if self.given_up {
                Over::HolderGone
            } else {
                Over::Ended
            }));
        }
        reader.waker = Some(waker.clone());
        Poll::Pending
    }

    /// Wakes a sink when a reader has taken something.
    pub(super) fn wake_later(&mut self, sink: &Waker) {
        self.waiting.push(sink.clone());
    }

    fn wake_readers(&mut self) {
        let wakers = self.readers.values_mut().filter_map(|reader| reader.waker.take());
        wakers.for_each(Waker::wake);
    }

    /// Keeps a chunk for the readers, and wakes them.
    pub(super) fn push(&mut self, chunk: Chunk) {
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

    /// The process of the current run has ended: what is left of its output, no more than its pipes hold, waits for no
    /// reader.
    pub(super) fn exited(&mut self) {
        self.has_exited = true;
        self.waiting.drain(..).for_each(Waker::wake);
    }

    /// Whether the output waits for a slow reader, and when the next one is cut off.
    pub(super) fn pace(&self) -> Pace {
        if self.has_exited {
            return Pace::Flows;
        }
        let slow = self.readers.values().filter(|reader| self.is_slow(reader));
        slow.map(|reader| match reader.is_waited_for {
            true => Pace::Waits,
            false => Pace::WaitsUntil(reader.moved + STALL),
        })
        .min()
        .unwrap_or(Pace::Flows)
    }

    fn is_slow(&self, reader: &Reader) -> bool {
        !reader.cut_off && self.written - reader.taken >= BACKLOG as u64
    }

    /// Cuts off the readers that have taken nothing for too long.
    pub(super) fn cut_off(&mut self) {
        let now = Instant::now();
        let slow = self.readers.iter().filter(|(_, reader)| self.is_slow(reader));
        let stalled = slow.filter(|(_, reader)| !reader.is_waited_for && reader.moved + STALL <= now);
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
}

fn cost(chunk: &Chunk) -> u64 {
    (chunk.bytes.len() + OVERHEAD) as u64
}
