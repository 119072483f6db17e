//! An output stream that is logged on its way to the task's writer; without a writer it is only logged.
//!
//! The two sides are independent. The log takes all bytes of the stream and has no errors. If the writer fails, its
//! error is returned at the end, and the log continues. The end of the stream ends both: by then the log's last lines
//! are delivered or given up.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context as Poller, Poll, ready};

use tokio::io::AsyncWrite;

use super::FLUSHING;
use super::lines::Lines;
use super::message::{self, Format};
use super::queue::Queue;
use crate::clock;
use crate::stdio::Writer;

/// Bytes that are taken at once: even if each byte were a line, the messages would fit into the room that a stream
/// waits for.
const PIECE: usize = 4 << 10;

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The log of one stream.
pub(super) struct StreamLog {
    queue: Queue,
    format: Format,
    lines: Lines,
    ended: bool,
}

impl StreamLog {
    pub(super) fn new(queue: Queue, format: Format) -> Self {
        Self {
            queue,
            format,
            lines: Lines::default(),
            ended: false,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let (format, mut messages) = (&self.format, Vec::new());
        let time = message::stamp(clock::now());
        self.lines
            .take(bytes, |line| messages.push(format.message(&time, line)));
        self.queue.push(messages);
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let (format, mut messages) = (&self.format, Vec::new());
        let time = message::stamp(clock::now());
        self.lines.end(|line| messages.push(format.message(&time, line)));
        self.queue.push(messages);
        self.queue.leave();
    }
}

impl Drop for StreamLog {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for StreamLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, ended, .. } = self;
        f.debug_struct("StreamLog")
            .field("format", format)
            .field("ended", ended)
            .finish_non_exhaustive()
    }
}

/// Writes to the log and to the task's writer, if it has one.
pub(super) struct Logged {
    main: Option<Writer>,
    /// The error of a writer that failed and was dropped.
    failed: Option<io::Error>,
    log: StreamLog,
    room: Option<Wait>,
    flushed: Option<Wait>,
    over: bool,
}

impl Logged {
    pub(super) fn new(main: Option<Writer>, log: StreamLog) -> Self {
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
        if self.room.is_none() && self.log.queue.is_full() {
            self.room = Some(Box::pin(self.log.queue.clone().room()));
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

impl AsyncWrite for Logged {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Poller<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
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
            self.log.end();
            let flushed = tokio::time::timeout(FLUSHING, self.log.queue.flushed());
            self.flushed = Some(Box::pin(async move { drop(flushed.await) }));
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
