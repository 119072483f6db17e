//! Errors of the standard streams. The error of a copy is `Clone`, because several waiters receive it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Interrupted;

/// One of the three standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The name of the stream's fifo.
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdin => "standard input",
            Self::Stdout => "standard output",
            Self::Stderr => "standard error",
        })
    }
}

/// A fifo of a container could not be created, opened or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub(crate) struct FifoError {
    /// The operation that failed, as in "cannot create".
    pub(crate) action: &'static str,
    /// The path of the fifo or directory.
    pub(crate) path: PathBuf,
    /// The system's error.
    #[source]
    pub(crate) source: io::Error,
}

/// A stream was not carried to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StreamError {
    /// The caller's reader failed, or the kernel refused to read a fifo.
    #[error("cannot read {stream}")]
    Read {
        /// The stream.
        stream: Stream,
        /// The reader's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The caller's writer failed, or the kernel refused to write a fifo. The output after that point is lost.
    #[error("cannot write {stream}")]
    Write {
        /// The stream.
        stream: Stream,
        /// The writer's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The runtime never opened its end of standard input.
    #[error("the runtime did not open standard input within {within:?}")]
    Unopened {
        /// How long the runtime had.
        within: Duration,
    },
    /// The waiter's context ended first. The copy continues.
    #[error("not all output was delivered")]
    Interrupted(#[source] Interrupted),
    /// The pumps were aborted or dropped before the streams ended.
    #[error("the streams were closed before all output was delivered")]
    Abandoned,
}

impl StreamError {
    pub(super) fn read(stream: Stream, source: io::Error) -> Self {
        Self::Read {
            stream,
            source: Arc::new(source),
        }
    }

    pub(super) fn write(stream: Stream, source: io::Error) -> Self {
        Self::Write {
            stream,
            source: Arc::new(source),
        }
    }
}
