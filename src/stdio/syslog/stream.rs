//! The lines of one stream on their way to the queue.

use std::fmt;

use super::FLUSHING;
use super::lines::Lines;
use super::message::{self, Format};
use super::queue::Queue;
use crate::clock;
use crate::stdio::logged::{StreamLog, Wait};

/// The log of one stream.
pub(super) struct SyslogStream {
    queue: Queue,
    format: Format,
    lines: Lines,
    ended: bool,
}

impl SyslogStream {
    pub(super) fn new(queue: Queue, format: Format) -> Self {
        Self {
            queue,
            format,
            lines: Lines::default(),
            ended: false,
        }
    }

    fn ends(&mut self) {
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

impl Drop for SyslogStream {
    fn drop(&mut self) {
        self.ends();
    }
}

impl fmt::Debug for SyslogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, ended, .. } = self;
        f.debug_struct("SyslogStream")
            .field("format", format)
            .field("ended", ended)
            .finish_non_exhaustive()
    }
}

impl StreamLog for SyslogStream {
    /// Even if each byte were a line, the messages would fit into the room that a stream waits for.
    const PIECE: usize = 4 << 10;

    fn room(&self) -> Option<Wait> {
        let queue = &self.queue;
        queue.is_full().then(|| Box::pin(queue.clone().room()) as _)
    }

    fn take(&mut self, bytes: &[u8]) {
        let (format, mut messages) = (&self.format, Vec::new());
        let time = message::stamp(clock::now());
        self.lines
            .take(bytes, |line| messages.push(format.message(&time, line)));
        self.queue.push(messages);
    }

    fn end(&mut self) -> Wait {
        self.ends();
        let flushed = tokio::time::timeout(FLUSHING, self.queue.flushed());
        Box::pin(async move { drop(flushed.await) })
    }
}
