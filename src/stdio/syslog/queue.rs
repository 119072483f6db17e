//! Messages on their way from the streams to the connection. The queue is bounded in bytes, never blocks for long, and
//! counts the messages that it drops. Independent of sockets.
//!
//! A full queue makes room by dropping its oldest messages: if a function dies, its last lines matter most. But a
//! healthy endpoint should lose nothing of a burst, so a stream first waits a moment for room. An endpoint that makes
//! no room in that moment, or cannot be reached, is *behind*: until it has caught up, no stream waits for it again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, RetryReason};

/// Bytes of waiting messages above which the oldest are dropped.
const CAPACITY: usize = 1 << 20;
/// The memory of a message in addition to its bytes.
const OVERHEAD: usize = 64;
/// How long a stream may wait for room before the endpoint counts as behind.
const GRACE: Duration = Duration::from_millis(100);
/// The most that is passed to the connection at once, in messages and in bytes.
const BATCH: (usize, usize) = (64, 64 << 10);

/// A handle to the queue of one container; clones share the queue.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Wakes the delivery.
    work: Notify,
    /// Cancelled when all streams have ended.
    closing: CancellationToken,
    /// How many messages are finished, whether sent or lost; follows [`State::through`].
    through: watch::Sender<u64>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Messages that the delivery has taken and not settled yet.
    in_flight: usize,
    through: u64,
    dropped: u64,
    behind: bool,
    streams: usize,
}

impl State {
    fn has_room(&self) -> bool {
        self.bytes < CAPACITY / 2
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let message = self.waiting.pop_front()?;
        self.bytes -= message.len() + OVERHEAD;
        Some(message)
    }
}

impl Queue {
    /// Creates a queue that ends when this number of streams have ended.
    pub(super) fn new(streams: usize, metrics: &Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                bytes: 0,
                in_flight: 0,
                through: 0,
                dropped: 0,
                behind: false,
                streams,
            }),
            work: Notify::new(),
            closing: CancellationToken::new(),
            through: watch::Sender::new(0),
            metrics: Arc::clone(metrics),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let now = self.state().through;
        // If two tasks report at once, the later one may have read the older value.
        self.0.through.send_modify(|through| *through = now.max(*through));
    }

    /// Whether a stream should wait (see [`Queue::room`]) before it adds more.
    pub(super) fn is_full(&self) -> bool {
        let state = self.state();
        !state.behind && !state.has_room()
    }

    /// Waits for room, at most for [`GRACE`].
    pub(super) async fn room(self) {
        let mut through = self.0.through.subscribe();
        let room = through.wait_for(|_| !self.is_full());
        if tokio::time::timeout(GRACE, room).await.is_err() {
            self.fall_behind();
        }
    }

    /// Marks the endpoint as behind: until it has caught up, no stream waits for room.
    pub(super) fn fall_behind(&self) {
        self.state().behind = true;
        self.tell();
    }

    /// Adds messages, and drops the oldest if there are too many.
    pub(super) fn push(&self, messages: Vec<Vec<u8>>) {
        if messages.is_empty() {
            return;
        }
        let mut state = self.state();
        let mut dropped = 0;
        for message in messages {
            state.bytes += message.len() + OVERHEAD;
            state.waiting.push_back(message);
            while state.bytes > CAPACITY && state.pop().is_some() {
                dropped += 1;
            }
        }
        state.dropped += dropped;
        state.through += dropped;
        drop(state);
        if dropped > 0 {
            self.0.metrics.lost_log_messages(dropped);
            self.tell();
        }
        self.0.work.notify_one();
    }

    /// Records that one stream has ended and adds no more messages.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.streams = state.streams.saturating_sub(1);
        if state.streams == 0 {
            self.0.closing.cancel();
        }
    }

    /// A future that completes when all messages that are in the queue now are finished: sent, dropped or given up.
    pub(super) fn flushed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut through = self.0.through.subscribe();
        let state = self.state();
        let target = state.through + (state.in_flight + state.waiting.len()) as u64;
        async move {
            // The wait fails only if the queue was dropped, and all messages with it.
            drop(through.wait_for(|through| *through >= target).await.map(drop));
        }
    }

    /// The next messages to send, or `None` once all streams have ended and no message waits.
    pub(super) async fn take(&self) -> Option<VecDeque<Vec<u8>>> {
        loop {
            if let Some(batch) = self.batch() {
                return Some(batch);
            }
            tokio::select! {
                biased;
                () = self.0.work.notified() => {}
                // One more look finds the messages that were added before the last stream ended.
                () = self.0.closing.cancelled() => return self.batch(),
            }
        }
    }

    fn batch(&self) -> Option<VecDeque<Vec<u8>>> {
        let mut state = self.state();
        let (mut batch, mut bytes) = (VecDeque::new(), 0);
        while batch.len() < BATCH.0
            && bytes < BATCH.1
            && let Some(message) = state.pop()
        {
            bytes += message.len();
            batch.push_back(message);
        }
        state.in_flight = batch.len();
        if state.has_room() {
            state.behind = false;
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Records that `done` of the taken messages are finished, and that `lost` messages, of these or earlier ones, did
    /// not arrive.
    pub(super) fn settle(&self, done: usize, lost: u64) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(done);
        state.through += done as u64;
        state.dropped += lost;
        drop(state);
        self.0.metrics.lost_log_messages(lost);
        self.tell();
    }

    /// Records that the connection is opened again.
    pub(super) fn connects_again(&self) {
        self.0.metrics.retry(RetryReason::Syslog);
    }

    /// Whether all streams have ended.
    pub(super) fn is_closing(&self) -> bool {
        self.0.closing.is_cancelled()
    }

    /// Waits until all streams have ended.
    pub(super) async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// Gives up the remaining messages. Returns how many messages were lost in all.
    pub(super) fn abandon(&self) -> u64 {
        let mut state = self.state();
        let left = (std::mem::take(&mut state.in_flight) + state.waiting.len()) as u64;
        state.waiting.clear();
        state.bytes = 0;
        state.through += left;
        state.dropped += left;
        let dropped = state.dropped;
        drop(state);
        self.0.metrics.lost_log_messages(left);
        self.tell();
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: &str = "fnctr_lost_log_messages_total";

    fn new_queue() -> Queue {
        Queue::new(1, &Arc::new(Metrics::new()))
    }

    fn message(number: usize) -> Vec<u8> {
        format!("{number:01000}").into_bytes()
    }

    #[tokio::test]
    async fn a_full_queue_keeps_the_newest_and_counts_the_rest() {
        let queue = new_queue();
        queue.push((0..5000).map(message).collect());
        queue.leave();
        let mut kept = Vec::new();
        while let Some(batch) = queue.take().await {
            queue.settle(batch.len(), 0);
            kept.extend(batch);
        }
        assert!(
            kept.len() > 900 && kept.len() * 1064 <= CAPACITY,
            "{}",
            kept.len()
        );
        assert_eq!(kept, (5000 - kept.len()..5000).map(message).collect::<Vec<_>>());
        let dropped = 5000 - kept.len() as u64;
        assert_eq!(queue.0.metrics.value(LOST), dropped);
        assert_eq!(queue.abandon(), dropped);
        assert_eq!(queue.0.metrics.value(LOST), dropped, "none is counted twice");
    }

    #[tokio::test]
    async fn what_the_connection_lost_and_what_is_given_up_is_counted_too() {
        let queue = new_queue();
        queue.push((0..5).map(message).collect());
        assert_eq!(queue.take().await.unwrap().len(), 5);
        queue.settle(2, 1);
        queue.push(vec![message(5)]);
        assert_eq!(queue.abandon(), 1 + 3 + 1);
        assert_eq!(queue.0.metrics.value(LOST), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_waits_once_for_an_endpoint_that_is_behind() {
        let queue = new_queue();
        queue.push((0..600).map(message).collect());
        assert!(queue.is_full());
        queue.clone().room().await;
        // No message was taken, so the endpoint is behind, and the next line does not wait.
        assert!(!queue.is_full());
        // The endpoint catches up: from now on a stream waits again.
        for _ in 0..3 {
            let taken = queue.take().await.unwrap().len();
            queue.settle(taken, 0);
        }
        queue.push((0..600).map(message).collect());
        assert!(queue.is_full());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_waits_for_what_was_there_and_for_no_more() {
        let queue = new_queue();
        queue.push((0..2).map(message).collect());
        let flushed = queue.flushed();
        tokio::pin!(flushed);
        let soon = Duration::from_millis(1);
        queue.push(vec![message(2)]);
        assert_eq!(queue.take().await.unwrap().len(), 3);
        queue.settle(1, 0);
        assert!(tokio::time::timeout(soon, &mut flushed).await.is_err());
        queue.settle(1, 0);
        flushed.await;
    }
}
