//! Entries on their way from the streams to the files. Bounded in bytes, and counts what it drops.
//!
//! Files are written by a task that may block, which exists only while there is something to write: a file system can stall,
//! and neither a container nor this process's other work waits for that. A stream whose entries find no room waits as long
//! as the files take any; if they take nothing for [`STALLED`], they are *behind*, and the oldest entries are dropped until
//! they have caught up.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::files::{Files, Names, Rotation};
use crate::metrics::Metrics;

/// How long a stream waits for files that take nothing.
const STALLED: Duration = Duration::from_secs(1);

/// How many bytes may wait if the caller does not say.
pub(super) const CAPACITY: usize = 1 << 20;

/// A handle to the entries of one container; clones refer to the same ones.
#[derive(Debug, Clone)]
pub(super) struct Backlog(Arc<Inner>);

/// A handle that does not keep the files open.
#[derive(Debug, Clone)]
pub(super) struct WeakBacklog(Weak<Inner>);

impl WeakBacklog {
    pub(super) fn upgrade(&self) -> Option<Backlog> {
        self.0.upgrade().map(Backlog)
    }
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    files: Mutex<Target>,
    /// How many entries are finished, whether written or lost. Its lock is taken before that of the state.
    through: watch::Sender<u64>,
    tracker: TaskTracker,
    metrics: Arc<Metrics>,
    capacity: usize,
    /// Whether streams wait for room at all.
    waits: bool,
}

/// Where entries are written.
#[derive(Debug)]
struct Target {
    names: Names,
    rotation: Rotation,
    /// Open from the first entry until all streams have ended.
    files: Option<Files>,
}

impl Target {
    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        let files = match &mut self.files {
            Some(files) => files,
            None => self.files.insert(Files::open(self.names.clone(), self.rotation)?),
        };
        files.append(entries)
    }
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Batch>,
    bytes: usize,
    /// Entries that were added, and are not finished.
    unfinished: u64,
    /// Whether a task writes, or is about to.
    is_writing: bool,
    is_behind: bool,
    /// Whether the last write has failed.
    is_failing: bool,
    streams: usize,
}

/// Whole entries.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: u64,
}

impl Backlog {
    /// Two streams write to the files, which are opened with the first entry and closed when all streams have ended.
    pub(super) fn new(
        names: Names,
        rotation: Rotation,
        capacity: Option<usize>,
        tracker: &TaskTracker,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                bytes: 0,
                unfinished: 0,
                is_writing: false,
                is_behind: false,
                is_failing: false,
                streams: 2,
            }),
            files: Mutex::new(Target {
                names,
                rotation,
                files: None,
            }),
            through: watch::Sender::new(0),
            tracker: tracker.clone(),
            metrics: Arc::clone(metrics),
            capacity: capacity.unwrap_or(CAPACITY),
            waits: capacity.is_none(),
        }))
    }

    /// Two more streams write, those of the container's next run: what is left of the last one is written before.
    pub(super) fn join(&self) {
        self.state().streams += 2;
    }

    /// A handle that does not keep the files open.
    pub(super) fn downgrade(&self) -> WeakBacklog {
        WeakBacklog(Arc::downgrade(&self.0))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever something was written; closed when nothing will be any more.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.0.through.subscribe()
    }

    /// Whether a stream waits (see [`Self::room`]) before it adds more.
    pub(super) fn is_full(&self) -> bool {
        let state = self.state();
        self.0.waits && !state.is_behind && state.bytes >= self.0.capacity / 2
    }

    /// Waits for room, as long as the files take anything.
    pub(super) async fn room(self) {
        let mut through = self.0.through.subscribe();
        while self.is_full() {
            if tokio::time::timeout(STALLED, through.changed()).await.is_err() {
                self.state().is_behind = true;
                tracing::warn!(
                    "the files of a log take nothing; its oldest entries are dropped until they do"
                );
            }
        }
    }

    /// Adds entries, and drops the oldest if there are too many.
    pub(super) fn push(&self, batch: Batch) {
        if batch.entries == 0 {
            return;
        }
        let (mut state, mut dropped) = (self.state(), 0);
        state.bytes += batch.bytes.len();
        state.unfinished += batch.entries;
        state.waiting.push_back(batch);
        // Otherwise the streams wait: what one of them has in its hand finds room.
        let is_bounded = !self.0.waits || state.is_behind;
        while is_bounded && state.bytes > self.0.capacity && state.waiting.len() > 1 {
            let Some(oldest) = state.waiting.pop_front() else {
                break;
            };
            state.bytes -= oldest.bytes.len();
            dropped += oldest.entries;
        }
        let begins = !std::mem::replace(&mut state.is_writing, true);
        drop(state);
        self.lost(dropped);
        if begins {
            self.write_soon();
        }
    }

    /// A stream has ended.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.streams = state.streams.saturating_sub(1);
        let closes = state.streams == 0 && !std::mem::replace(&mut state.is_writing, true);
        drop(state);
        if closes {
            self.write_soon();
        }
    }

    /// A future that completes when all entries that are here now are finished.
    pub(super) fn flushed(&self) -> impl Future<Output = ()> + Send + use<> {
        let (mut through, mut target) = (self.0.through.subscribe(), 0);
        self.0.through.send_if_modified(|through| {
            target = *through + self.state().unfinished;
            false
        });
        async move {
            // The wait fails only if the backlog was dropped, and its entries with it.
            drop(through.wait_for(|through| *through >= target).await.map(drop));
        }
    }

    fn write_soon(&self) {
        let this = self.clone();
        self.0.tracker.spawn_blocking(move || this.write());
    }

    /// Writes until nothing waits. Closes the files if nothing will any more.
    fn write(&self) {
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut state = self.state();
            if state.waiting.is_empty() {
                state.is_writing = false;
                if state.streams == 0 {
                    drop(state);
                    files.files = None;
                }
                return;
            }
            let batches = std::mem::take(&mut state.waiting);
            state.bytes = 0;
            drop(state);
            for batch in batches {
                let written = files.append(&batch.bytes);
                self.account(&batch, written);
            }
        }
    }

    fn account(&self, batch: &Batch, written: io::Result<()>) {
        let mut state = self.state();
        state.is_behind = false;
        let was_failing = std::mem::replace(&mut state.is_failing, written.is_err());
        drop(state);
        match written {
            Ok(()) => self.finished(batch.entries),
            Err(error) => {
                if !was_failing {
                    tracing::warn!(%error, "cannot write a container's log; its entries are lost until that succeeds");
                }
                self.lost(batch.entries);
            }
        }
    }

    fn lost(&self, entries: u64) {
        if entries > 0 {
            self.0.metrics.lost_log_messages(entries);
            self.finished(entries);
        }
    }

    fn finished(&self, entries: u64) {
        self.0.through.send_modify(|through| {
            let mut state = self.state();
            state.unfinished = state.unfinished.saturating_sub(entries);
            *through += entries;
        });
    }
}
