//! This process's standard output as the output of the function: detects that its reader has gone, and records whether
//! the last line was complete.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Poller, Poll};

use tokio::io::AsyncWrite;

use super::interrupt::Interrupt;

/// Whether the last byte on standard output was the end of a line; true if nothing was written.
#[derive(Debug, Clone)]
pub(super) struct LineEnd(Arc<AtomicBool>);

impl LineEnd {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    pub(super) fn is_clean(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Forwards all writes. A broken pipe ends the function, as it ends any program whose output is no longer read.
#[derive(Debug)]
pub(super) struct Standard<W> {
    inner: W,
    line_end: LineEnd,
    interrupt: Interrupt,
}

/// Whether a terminal is gone (tty_ioctl(4), a hangup makes every write fail with EIO).
fn is_hung_up(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::EIO as i32)
}

impl<W> Standard<W> {
    pub(super) fn new(inner: W, line_end: &LineEnd, interrupt: &Interrupt) -> Self {
        Self {
            inner,
            line_end: line_end.clone(),
            interrupt: interrupt.clone(),
        }
    }

    fn note_broken_pipe<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled
            && (error.kind() == io::ErrorKind::BrokenPipe || is_hung_up(error))
        {
            self.interrupt.nobody_reads();
        }
        polled
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Standard<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Poller<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled
            && let Some(last) = bytes.get(..*written).and_then(|written| written.last())
        {
            self.line_end.0.store(*last == b'\n', Ordering::Release);
        }
        self.note_broken_pipe(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.note_broken_pipe(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.note_broken_pipe(polled)
    }
}
