//! Carries one stream to its end. Independent of tasks, waiters and the other streams.
//!
//! Two properties of the kernel determine how this works. Before any process has opened the write end of a fifo, epoll
//! reports nothing for a non-blocking read end, but a bare `read` returns 0. So a copy waits for readiness first, and a
//! 0 after that means that all writers have closed. And opening a write end without blocking fails with ENXIO until a
//! reader has opened the fifo, so the copy of stdin retries for a while.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::{Reader, Stream, StreamError, Writer, fifo};
use crate::pauses::Pauses;

/// The size of one read. A buffer exists only while bytes flow, so an idle container holds none for its output.
const BUFFER: usize = 64 << 10;
/// How long the runtime may take to open its end of stdin after it reported the task as created.
const OPENING: Duration = Duration::from_secs(10);

/// How the copy of stdin ended.
pub(super) struct InputEnd {
    /// Bytes that the fifo took. The function need not have read them.
    pub(super) delivered: u64,
    /// Whether the function must see the end of file: the input has ended, or it cannot be carried any further.
    pub(super) close: bool,
    /// The error, if there was one.
    pub(super) error: Option<StreamError>,
}

/// How the copy of an output stream ended.
pub(super) struct OutputEnd {
    /// Bytes that the writer took.
    pub(super) delivered: u64,
    /// The first error, if there was one.
    pub(super) error: Option<StreamError>,
}

/// Copies the function's output until all writers have closed. A failing writer does not end the copy: the function
/// must neither block nor be killed because the reader of its pipe is gone, so the rest is read and discarded.
///
/// # Cancellation
/// Safe to drop; the rest of the output is lost.
pub(super) async fn deliver(stream: Stream, from: pipe::Receiver, to: Writer) -> OutputEnd {
    let mut delivery = Delivery {
        stream,
        to: Some(to),
        end: OutputEnd {
            delivered: 0,
            error: None,
        },
    };
    if let Err(error) = delivery.drain(&from).await {
        delivery.fail(StreamError::read(stream, error));
    }
    delivery.finish().await
}

/// A writer that may have failed, and the result so far.
struct Delivery {
    stream: Stream,
    to: Option<Writer>,
    end: OutputEnd,
}

impl Delivery {
    async fn drain(&mut self, from: &pipe::Receiver) -> io::Result<()> {
        loop {
            from.readable().await?;
            let mut buffer = Vec::with_capacity(BUFFER);
            loop {
                buffer.clear();
                match from.try_read_buf(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(_) => self.write(&buffer).await,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
                // Otherwise a read and a writer that are always ready would never yield to the other tasks.
                consume_budget().await;
            }
            // The function pauses: its output so far must not wait in a buffer of the writer.
            self.flush().await;
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        let Some(writer) = self.to.as_mut() else {
            return;
        };
        match writer.write_all(bytes).await {
            Ok(()) => self.end.delivered += bytes.len() as u64,
            Err(error) => self.fail(StreamError::write(self.stream, error)),
        }
    }

    async fn flush(&mut self) {
        if let Some(writer) = self.to.as_mut()
            && let Err(error) = writer.flush().await
        {
            self.fail(StreamError::write(self.stream, error));
        }
    }

    async fn finish(mut self) -> OutputEnd {
        if let Some(mut writer) = self.to.take()
            && let Err(error) = writer.shutdown().await
        {
            self.fail(StreamError::write(self.stream, error));
        }
        self.end
    }

    fn fail(&mut self, error: StreamError) {
        self.to = None;
        self.end.error.get_or_insert(error);
    }
}

/// Copies the input to the function until it ends or the function no longer reads it. It is no error if the function
/// closes its stdin, never reads it, or exits early.
///
/// # Cancellation
/// Safe to drop; the fifo is closed.
pub(super) async fn feed(path: &Path, mut from: Reader) -> InputEnd {
    let mut end = InputEnd {
        delivered: 0,
        close: false,
        error: None,
    };
    let mut to = match open_sender(path).await {
        Ok(sender) => sender,
        Err(error) => {
            end.close = true;
            end.error = Some(error);
            return end;
        }
    };
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        match from.read_buf(&mut buffer).await {
            Ok(0) => {
                end.close = true;
                break;
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                end.close = true;
                end.error = Some(StreamError::read(Stream::Stdin, error));
                break;
            }
        }
        match to.write_all(&buffer).await {
            Ok(()) => end.delivered += buffer.len() as u64,
            Err(error) => {
                if error.kind() != ErrorKind::BrokenPipe {
                    end.close = true;
                    end.error = Some(StreamError::write(Stream::Stdin, error));
                }
                break;
            }
        }
    }
    end
}

/// Opens the write end of stdin as soon as the runtime has opened its read end.
async fn open_sender(path: &Path) -> Result<pipe::Sender, StreamError> {
    let give_up = Instant::now() + OPENING;
    let mut pauses = Pauses::new(Duration::from_millis(1), Duration::from_millis(50));
    loop {
        match pipe::OpenOptions::new().open_sender(path) {
            Ok(sender) => {
                fifo::enlarge(&sender);
                return Ok(sender);
            }
            Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {}
            Err(error) => return Err(StreamError::write(Stream::Stdin, error)),
        }
        if Instant::now() >= give_up {
            return Err(StreamError::Unopened { within: OPENING });
        }
        pauses.wait().await;
    }
}
