//! Carries one stream to its end. Knows nothing of tasks, waiters or the other streams.
//!
//! Two facts of the kernel shape this file. Before any process has opened the write end of a fifo, epoll reports
//! nothing for a non-blocking read end, but a bare `read` returns 0: so a copy waits for readiness first, and a 0 after
//! that means that all writers have closed. And opening a write end without blocking fails with ENXIO until somebody
//! reads: so the copy of stdin tries again for a while.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::{Reader, Stream, StreamError, Writer, fifo};

/// What one read takes. A buffer lives only while bytes flow, so an idle container holds none for its output.
const BUFFER: usize = 64 << 10;
/// How long the runtime may take to open its end of stdin after it said that the task exists.
const OPENING: Duration = Duration::from_secs(10);

/// How the copy of stdin ended.
pub(super) struct InputEnd {
    /// Bytes that the fifo took. The function need not have read them.
    pub(super) delivered: u64,
    /// The input came to its end, or could not be carried on; either way the function must see the end of file.
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

/// Copies what the function writes until all writers have closed. A writer that fails does not end the copy: the
/// function must not block on, or be killed by, a reader that went away, so the rest is read and thrown away.
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

/// A writer that may have failed, and what became of it.
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
                // Neither the read nor a writer that is always ready would ever yield to the other tasks.
                consume_budget().await;
            }
            // The function pauses: what it said so far must not wait in somebody's buffer.
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

/// Copies the input to the function until it ends or nobody reads it any more. A function that closes its stdin, never
/// reads it, or exits early is no error.
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
    let mut pause = Duration::from_millis(1);
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
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
