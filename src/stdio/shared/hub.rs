//! Passes the output of a container to every reader that has joined.
//!
//! Each chunk of output is stored once, until every reader that had joined before it has taken it, so memory does not
//! grow with the number of readers. A slow reader slows the container's output down, as the reader of a pipe does. A
//! reader that takes nothing at all is cut off after [`STALL`](super::backlog::STALL), unless it has joined as one for
//! which the output waits.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};

use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep_until};

use super::backlog::{Backlog, Chunk, Over, Pace, Wants};
use crate::stdio::{Sink, Stream};

/// The output of one container, for any number of readers. Clones refer to the same output.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<Backlog>>);

/// A reader of the output. Dropping it ends the reading.
#[derive(Debug)]
pub(crate) struct Listener {
    hub: Hub,
    key: u64,
}

impl Hub {
    /// The destination of one of the container's streams during its next run.
    pub(crate) fn sink(&self, stream: Stream) -> Sink {
        Sink::Writer(Box::new(self.writer(stream)))
    }

    /// Like [`Self::sink`], for a caller that writes to something else too.
    pub(crate) fn writer(&self, stream: Stream) -> HubWriter {
        self.backlog().open();
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
        self.listener(self.backlog().join(wants, false))
    }

    /// Joins as a reader that is never cut off: while it takes nothing, the container waits, as it does for the reader of
    /// a pipe.
    pub(crate) fn listen_patiently(&self, wants: Wants) -> Listener {
        self.listener(self.backlog().join(wants, true))
    }

    /// Ends the output for the readers that wait for the next run. During a run, it does nothing, and returns `false`.
    pub(crate) fn end(&self) -> bool {
        self.backlog().end()
    }

    /// The process of the current run has ended: the rest of its output, no more than its pipes hold, waits for no reader.
    pub(crate) fn exited(&self) {
        self.backlog().exited();
    }

    fn listener(&self, key: u64) -> Listener {
        Listener {
            hub: self.clone(),
            key,
        }
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        poll_fn(|cx| self.hub.backlog().poll(self.key, cx.waker())).await
    }

    /// Whether a run was under way at any time since it joined.
    pub(crate) fn has_begun(&self) -> bool {
        self.hub.backlog().has_begun(self.key)
    }

    /// Waits for the next holder of the streams after [`Over::HolderGone`]. Nothing that it passes on is missed.
    pub(crate) fn rejoin(&mut self) {
        self.hub.backlog().rejoin(self.key);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.hub.backlog().leave(self.key);
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
            let mut backlog = hub.backlog();
            let until = match backlog.pace() {
                Pace::Flows => {
                    self.patience = None;
                    if backlog.has_readers() {
                        let chunk = Chunk {
                            stream: self.stream,
                            bytes: buf.into(),
                        };
                        backlog.push(chunk);
                    }
                    return Poll::Ready(Ok(buf.len()));
                }
                Pace::Waits => {
                    self.patience = None;
                    backlog.wake_later(cx.waker());
                    return Poll::Pending;
                }
                Pace::WaitsUntil(until) => until,
            };
            backlog.wake_later(cx.waker());
            let patience = self.patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if patience.deadline() != until {
                patience.as_mut().reset(until);
            }
            match patience.as_mut().poll(cx) {
                Poll::Ready(()) => backlog.cut_off(),
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
            self.hub.backlog().close(is_given_up);
        }
    }
}

impl Drop for HubWriter {
    fn drop(&mut self) {
        self.close(true);
    }
}
