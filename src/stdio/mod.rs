//! The standard streams of a container, as values, and the fifos that carry them.
//!
//! A null stream is a value, not a test of a type: it has no fifo, the runtime gets no path for it, and no task runs
//! for it. This module does not depend on containerd; the caller that creates the task passes [`Fifos::paths`] to it.
//!
//! ```text
//! Fifos::create ──► read ends of stdout and stderr are open, so that the runtime never blocks on its write ends
//!   │ (the task is created with Fifos::paths)
//!   ▼
//! Fifos::start ───► Pumps: stdin ─► fifo, fifo ─► stdout, fifo ─► stderr, each on its own tracked task
//!   │ Pumps::stdin_done: the input has ended, the runtime must close the write end that it holds itself
//!   │ (the process exits)
//!   ▼
//! Pumps::finished ─► all output has been delivered and flushed, or the first error
//! ```
//!
//! The runtime holds both ends of the fifos of the output and the write end of the input, so a later process can take
//! them over ([`Fifos::reopen`]). Until then, output waits in the pipe, and a function that has filled the pipe blocks.
//! A container that must outlive its creator without blocking gets null streams.
//!
//! Any number of readers and writers, of this process and of others, can share the streams: [`Hub`] for the output,
//! [`SharedInput`] for the input, [`StreamsLock`] and [`Remote`] between processes.

mod copy;
mod error;
mod fifo;
mod log_file;
mod logged;
mod pumps;
mod shared;
mod syslog;
#[cfg(test)]
mod tests;

use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use error::{FifoError, Stream, StreamError};
pub(crate) use fifo::{Fifos, Paths};
pub(crate) use log_file::{LogEntry, LogFiles, LogOptions, LogQuery, LogReader};
pub(crate) use pumps::Pumps;
pub(crate) use shared::{
    Chunk, Hub, InputWriter, Listener, Over, Remote, RemoteListener, SharedInput, StreamsLock, Tee, Wants,
    WeakStreamsLock,
};
pub(crate) use syslog::{Endpoint, NoSyslog, Syslog};

/// The source of a function's input.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// The destination of a function's output.
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The three standard streams of one container. The default is three null streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// The function's input.
    pub(crate) stdin: Source,
    /// The destination of its output.
    pub(crate) stdout: Sink,
    /// The destination of its error output.
    pub(crate) stderr: Sink,
}

/// The source of a function's standard input.
#[derive(Default)]
pub(crate) enum Source {
    /// Not attached: the function reads the end of file at once.
    #[default]
    Null,
    /// Attached: read until its end, which the function sees as end of file.
    Reader(Reader),
}

/// The destination of one of a function's output streams.
#[derive(Default)]
pub(crate) enum Sink {
    /// Not attached: the runtime discards the bytes.
    #[default]
    Null,
    /// Attached: written in order, flushed whenever the function pauses, and shut down at the end.
    Writer(Writer),
    /// Attached, and left to another process, which takes it over from the pipe.
    Left,
}

impl Streams {
    /// Output that another process will carry, and no input.
    pub(crate) fn left() -> Self {
        Self {
            stdin: Source::Null,
            stdout: Sink::Left,
            stderr: Sink::Left,
        }
    }

    /// The same for a terminal, which has one output.
    pub(crate) fn of_terminal(self) -> Self {
        Self {
            stderr: Sink::Null,
            ..self
        }
    }

    /// Whether this process carries any output.
    pub(crate) fn have_output(&self) -> bool {
        let is_carried = |sink: &Sink| matches!(sink, Sink::Writer(_));
        is_carried(&self.stdout) || is_carried(&self.stderr)
    }

    /// Whether no stream is attached.
    pub(crate) fn are_null(&self) -> bool {
        matches!(
            (&self.stdin, &self.stdout, &self.stderr),
            (Source::Null, Sink::Null, Sink::Null)
        )
    }
}

#[cfg(test)]
impl Source {
    /// The source that reads from `reader`.
    pub(crate) fn reader(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self::Reader(Box::new(reader))
    }
}

#[cfg(test)]
impl Sink {
    /// The sink that writes to `writer`.
    pub(crate) fn writer(writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self::Writer(Box::new(writer))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Reader(_) => "Reader",
        })
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Writer(_) => "Writer",
            Self::Left => "Left",
        })
    }
}
