//! An output stream that is logged on its way to its writer; without a writer it is only logged.
//!
//! The two sides are independent. The log takes all bytes of the stream and has no errors. If the writer fails, its
//! error is returned at the end, and the log continues. The end of the stream ends both: by then the log's last lines
//! are delivered or given up.

use std::io;
use std::pin::Pin;
use std::task::{Context as Poller, Poll, ready};

use tokio::io::AsyncWrite;

use super::{Sink, Writer};

/// What a stream waits for.
pub(super) type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The log of one stream. It never fails, and never makes the stream wait for long.
pub(super) trait StreamLog: Send + Unpin {
    /// How many bytes are taken at once.
    const PIECE: usize;

    /// What the stream waits for before it writes more; `None` if there is room.
    fn room(&self) -> Option<Wait>;

    /// Takes a part of the stream, of at most [`Self::PIECE`] bytes.
    fn take(&mut self, bytes: &[u8]);

    /// The stream has ended. The future completes when everything is delivered or given up.
    fn end(&mut self) -> Wait;
}

/// The sink that writes to the log and to where `sink` leads.
pub(super) fn logged(sink: Sink, log: impl StreamLog + 'static) -> Sink {
    let main = match sink {
        Sink::Null | Sink::Left => None,
        Sink::Writer(writer) => Some(writer),
    };
    Sink::Writer(Box::new(Logged::new(main, log)))
}

/// Writes to the log and to the task's writer, if it has one.
pub(super) struct Logged<L> {
    main: Option<Writer>,
    /// The error of a writer that failed and was dropped.
    failed: Option<io::Error>,
    log: L,
    room: Option<Wait>,
    flushed: Option<Wait>,
    over: bool,
}

impl<L: StreamLog> Logged<L> {
    pub(super) fn new(main: Option<Writer>, log: L) -> Self {
        Self {
            main,
            failed: None,
            log,
            room: None,
            flushed: None,
            over: false,
        }
    }

    fn poll_room(&mut self, cx: &mut Poller<'_>) -> Poll<()> {
        if self.room.is_none() {
            self.room = self.log.room();
        }
        if let Some(room) = &mut self.room {
            ready!(room.as_mut().poll(cx));
            self.room = None;
        }
        Poll::Ready(())
    }

    /// Calls `work` on the writer. Drops a writer that fails.
    fn poll_main<T>(
        &mut self,
        cx: &mut Poller<'_>,
        work: impl FnOnce(Pin<&mut Writer>, &mut Poller<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<Option<T>> {
        let Some(main) = &mut self.main else {
            return Poll::Ready(None);
        };
        match ready!(work(Pin::new(main), cx)) {
            Ok(value) => Poll::Ready(Some(value)),
            Err(error) => {
                (self.main, self.failed) = (None, Some(error));
                Poll::Ready(None)
            }
        }
    }
}

impl<L: StreamLog> AsyncWrite for Logged<L> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Poller<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let piece = bytes.get(..L::PIECE).unwrap_or(bytes);
        ready!(self.poll_room(cx));
        let written = ready!(self.poll_main(cx, |main, cx| main.poll_write(cx, piece)));
        let taken = match written {
            // The writer will never take anything more, which is as final as an error.
            Some(0) if !piece.is_empty() => {
                (self.main, self.failed) = (None, Some(io::ErrorKind::WriteZero.into()));
                piece.len()
            }
            Some(written) => written,
            None => piece.len(),
        };
        self.log.take(piece.get(..taken).unwrap_or(piece));
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        // Complete lines are already on their way to the log.
        self.poll_main(cx, |main, cx| main.poll_flush(cx)).map(|_| Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        if self.flushed.is_none() && !std::mem::replace(&mut self.over, true) {
            // Ended first, so that the log is delivered while the writer is shut down.
            self.flushed = Some(self.log.end());
        }
        if ready!(self.poll_main(cx, |main, cx| main.poll_shutdown(cx))).is_some() {
            self.main = None;
        }
        if let Some(flushed) = &mut self.flushed {
            ready!(flushed.as_mut().poll(cx));
            self.flushed = None;
        }
        Poll::Ready(self.failed.take().map_or(Ok(()), Err))
    }
}
