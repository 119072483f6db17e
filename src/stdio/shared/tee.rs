//! A writer that passes what it has written on to a second one.

use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use tokio::io::AsyncWrite;

use super::hub::HubWriter;

/// Writes to `first`, and what that has taken to the hub. Errors are those of `first`, and nothing that it has refused
/// reaches the hub.
#[derive(Debug)]
pub(crate) struct Tee<W> {
    first: W,
    hub: HubWriter,
    /// What `first` has taken and the hub has not.
    due: Vec<u8>,
}

impl<W> Tee<W> {
    /// Joins the two.
    pub(crate) fn new(first: W, hub: HubWriter) -> Self {
        Self {
            first,
            hub,
            due: Vec::new(),
        }
    }
}

impl<W: AsyncWrite + Unpin> Tee<W> {
    fn poll_due(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        while !self.due.is_empty() {
            let taken = ready!(Pin::new(&mut self.hub).poll_write(cx, &self.due))?;
            self.due.drain(..taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Tee<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_due(cx))?;
        let taken = ready!(Pin::new(&mut this.first).poll_write(cx, buf))?;
        // Usually the hub takes it at once, and nothing is copied.
        let bytes = buf.get(..taken).unwrap_or_default();
        match Pin::new(&mut this.hub).poll_write(cx, bytes) {
            Poll::Ready(written) => drop(written?),
            Poll::Pending => this.due.extend_from_slice(bytes),
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_due(cx))?;
        Pin::new(&mut self.first).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_due(cx))?;
        let closed = Pin::new(&mut self.hub).poll_shutdown(cx);
        drop(ready!(closed));
        Pin::new(&mut self.first).poll_shutdown(cx)
    }
}
