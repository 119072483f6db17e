//! The standard streams of a function. A stream that is off is a value, [`Input::Null`] or [`Output::Null`], and is not
//! attached to the container at all; no code tests a type to find out.
//!
//! A stream has one user, so it is handed over once: [`Once`] keeps it until then and returns the null stream
//! afterwards.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as Poller, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::lock;

/// The source of a function's standard input.
#[derive(Default)]
pub enum Input {
    /// No source: the function reads end of file at once.
    #[default]
    Null,
    /// This reader. The function sees end of file when the reader ends, fails or panics; a failure or panic also fails
    /// the run. The reader is polled on a thread of the executor, so it must not block.
    Stream(Box<dyn AsyncRead + Send + Unpin>),
}

impl Input {
    /// Input from a reader.
    pub fn from_reader(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self::Stream(Box::new(reader))
    }

    /// Input from bytes in memory.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::from_reader(io::Cursor::new(bytes.into()))
    }

    /// Whether no stream is to be attached.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_null() { "Null" } else { "Stream" })
    }
}

/// The destination of a function's standard output or standard error.
#[derive(Default)]
pub enum Output {
    /// No destination: the function writes to `/dev/null`.
    #[default]
    Null,
    /// This writer, which is flushed and shut down at the end. If it fails or panics, the run fails, and the rest of
    /// the output is read and discarded. The writer is polled on a thread of the executor, so it must not block.
    Stream(Box<dyn AsyncWrite + Send + Unpin>),
}

impl Output {
    /// Output to a writer.
    pub fn to_writer(writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self::Stream(Box::new(writer))
    }

    /// Output to memory, which keeps at most `limit` bytes, because a function's output has no bound.
    #[must_use]
    pub fn capture(limit: usize) -> (Self, Captured) {
        let captured = Captured(Arc::new(Mutex::new(Capture {
            limit,
            kept: Vec::new(),
            lost: 0,
        })));
        (Self::to_writer(captured.clone()), captured)
    }

    /// Whether no stream is to be attached.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_null() { "Null" } else { "Stream" })
    }
}

/// The output that [`Output::capture`] has kept so far; clones share it.
#[derive(Debug, Clone)]
pub struct Captured(Arc<Mutex<Capture>>);

#[derive(Debug)]
struct Capture {
    limit: usize,
    kept: Vec<u8>,
    lost: u64,
}

impl Captured {
    /// The bytes kept.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.0).kept.clone()
    }

    /// How many bytes are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.0).kept.len()
    }

    /// Whether no bytes were kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes kept, as readable text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0).kept).into_owned()
    }

    /// How many bytes exceeded the limit and are lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        lock(&self.0).lost
    }
}

impl AsyncWrite for Captured {
    fn poll_write(self: Pin<&mut Self>, _: &mut Poller<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut capture = lock(&self.0);
        let room = capture.limit.saturating_sub(capture.kept.len());
        let (kept, lost) = bytes.split_at(room.min(bytes.len()));
        capture.kept.extend_from_slice(kept);
        capture.lost = capture
            .lost
            .saturating_add(u64::try_from(lost.len()).unwrap_or(u64::MAX));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A value that is handed over once; later calls return the default.
#[derive(Default)]
pub struct Once<T>(Mutex<T>);

impl<T: Default> Once<T> {
    /// The value, or its default if it was taken before.
    pub fn take(&self) -> T {
        std::mem::take(&mut lock(&self.0))
    }
}

impl<T> From<T> for Once<T> {
    fn from(value: T) -> Self {
        Self(Mutex::new(value))
    }
}

impl<T: fmt::Debug> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lock(&self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_stream_is_handed_over_once_and_is_null_after() {
        let slot = Once::from(Input::from_bytes("hello"));
        let Input::Stream(mut reader) = slot.take() else {
            panic!("the stream was not there")
        };
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        assert!(slot.take().is_null());
    }

    #[tokio::test]
    async fn a_capture_keeps_up_to_its_limit_and_counts_the_rest() {
        let (output, captured) = Output::capture(4);
        let Output::Stream(mut writer) = output else {
            panic!("a capture is a stream")
        };
        writer.write_all(b"abc").await.unwrap();
        writer.write_all(b"defg").await.unwrap();
        assert_eq!((captured.text().as_str(), captured.lost()), ("abcd", 3));
    }
}
