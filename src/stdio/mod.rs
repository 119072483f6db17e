//! Standard streams of a container, as values, and the fifos that carry them.
//!
//! A null stream is a value, not a test of a type: it has no fifo, the runtime is given no path for it, and nothing
//! here runs for it. This module never knows containerd; whoever creates the task hands over [`Fifos::paths`].
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
//! The fifos of a container cannot be taken over by a later process: what the function writes while nobody reads stays
//! in the pipe until the runtime closes it, and is lost with it. A container that must outlive its creator gets null
//! streams.

mod copy;
mod error;
mod fifo;
mod pumps;
mod syslog;
#[cfg(test)]
mod tests;

use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use error::{FifoError, Stream, StreamError};
pub(crate) use fifo::{Fifos, Paths};
pub(crate) use pumps::Pumps;
pub(crate) use syslog::{Endpoint, NoSyslog, Syslog};

/// Where a function's input comes from.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// Where a function's output goes.
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The three standard streams of one container. The default is three null streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// What the function reads.
    pub(crate) stdin: Source,
    /// Where its output goes.
    pub(crate) stdout: Sink,
    /// Where its complaints go.
    pub(crate) stderr: Sink,
}

/// What a function reads.
#[derive(Default)]
pub(crate) enum Source {
    /// Not attached: the function finds the end of file at once.
    #[default]
    Null,
    /// Read until its end, which the function sees as end of file.
    Reader(Reader),
}

/// Where a function writes.
#[derive(Default)]
pub(crate) enum Sink {
    /// Not attached: the runtime throws the bytes away.
    #[default]
    Null,
    /// Written in order, flushed whenever the function pauses, shut down at the end.
    Writer(Writer),
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
        })
    }
}
