//! The input of a container, from any number of writers.
//!
//! What is written before the container starts is kept for it. A writer that leaves does not end the input; only a
//! writer that owns the input can end it, by closing its side.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stdio::Source;

/// How many bytes the input holds for a container that does not read.
const ROOM: usize = 1 << 20;

/// The input of one container, for any number of writers. Clones refer to the same input.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedInput(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    held: VecDeque<u8>,
    ended: bool,
    /// Counts the runs whose input is over: a writer belongs to one run.
    run: u64,
    reader: Option<Waker>,
    waiting: Vec<Waker>,
}

/// A writer of the current run's input, or of the next one's if there is no run. Dropping it is leaving.
#[derive(Debug)]
pub(crate) struct InputWriter {
    input: SharedInput,
    run: u64,
    ends: bool,
}

impl SharedInput {
    /// The source of the container's input during its next run.
    pub(crate) fn source(&self) -> Source {
        Source::Reader(Box::new(InputReader(self.clone())))
    }

    /// Joins as a writer. If it `ends` the input, the container reads the end of file once this writer has closed its
    /// side; otherwise closing it is the same as leaving.
    pub(crate) fn writer(&self, ends: bool) -> InputWriter {
        InputWriter {
            input: self.clone(),
            run: self.state().run,
            ends,
        }
    }

    /// Discards what was written for a run that will not come; its writers are refused from now on.
    pub(crate) fn discard(&self) {
        self.state().discard();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn discard(&mut self) {
        self.held = VecDeque::new();
        self.ended = false;
        self.run += 1;
        self.wake();
    }

    fn wake(&mut self) {
        self.waiting
            .drain(..)
            .chain(self.reader.take())
            .for_each(Waker::wake);
    }
}

/// What the container reads from.
struct InputReader(SharedInput);

impl AsyncRead for InputReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        if state.held.is_empty() {
            if state.ended {
                return Poll::Ready(Ok(()));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (first, _) = state.held.as_slices();
        let taken = first.len().min(buf.remaining());
        buf.put_slice(first.get(..taken).unwrap_or_default());
        state.held.drain(..taken);
        state.waiting.drain(..).for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for InputReader {
    /// The run reads no more: what it has not read is discarded, and its writers are refused.
    fn drop(&mut self) {
        self.0.discard();
    }
}

impl AsyncWrite for InputWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.input.state();
        if state.ended || state.run != self.run {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = ROOM.saturating_sub(state.held.len());
        if room == 0 {
            state.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = buf.len().min(room);
        state.held.extend(buf.get(..taken).unwrap_or_default());
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let mut state = self.input.state();
        if self.ends && state.run == self.run {
            state.ended = true;
            state.wake();
        }
        Poll::Ready(Ok(()))
    }
}
