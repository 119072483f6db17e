//! The streams of a task, and how they flow over an attachment.
//!
//! A stream of the host that fails does not disturb the others: the function sees the end of its input, and the rest of
//! its output is read and discarded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::daemon::{Attached, Output as Frames, Wants};
use crate::Context;
use crate::driver::guarded::Guarded;
use crate::driver::host::{self, HostError};
use crate::driver::{ContainerTask, Input, Output, StandardStream, StreamFailed};

/// How much input is read at once.
const CHUNK: usize = 32 << 10;
/// How long the engine may take for the next output of a container that has ended.
const LATE: Duration = Duration::from_secs(30);

type Reader = Guarded<Box<dyn AsyncRead + Send + Unpin>>;
type Writer = Guarded<Box<dyn AsyncWrite + Send + Unpin>>;

/// The streams of a task that are not off.
pub(super) struct Streams {
    stdin: Option<Reader>,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Streams").field(&self.wants()).finish()
    }
}

impl Streams {
    /// Takes the streams that the task hands over, which is possible once.
    ///
    /// # Cancellation
    /// Safe to drop, but the task may have handed them over by then.
    pub(super) async fn of(task: &Arc<dyn ContainerTask>, ctx: &Context) -> Result<Self, HostError> {
        let asked = Arc::clone(task);
        let (stdout, stderr) = host::call(ctx, "ContainerTask::logger", move || asked.logger()).await?;
        let asked = Arc::clone(task);
        let stdin = host::call(ctx, "ContainerTask::input", move || asked.input()).await?;
        Ok(Self {
            stdin: match stdin {
                Input::Null => None,
                Input::Stream(reader) => Some(Guarded::new("the standard input", reader)),
            },
            stdout: writer("the standard output", stdout),
            stderr: writer("the standard error", stderr),
        })
    }

    /// Which streams are to be attached.
    pub(super) fn wants(&self) -> Wants {
        Wants {
            stdin: self.stdin.is_some(),
            stdout: self.stdout.is_some(),
            stderr: self.stderr.is_some(),
        }
    }

    /// Carries the streams until the engine ends the output, or, without output, until the container has `ended`. The
    /// error is that of the first stream that failed.
    ///
    /// # Cancellation
    /// Safe to drop; what is not delivered is lost.
    pub(super) async fn carry(self, attached: Attached, ended: Context) -> Option<StreamFailed> {
        let has_output = self.wants().has_output();
        let Attached { output, input } = attached;
        let (mut fed, mut feeding) = (None, std::pin::pin!(feed(self.stdin, input)));
        let mut delivering = std::pin::pin!(async {
            if has_output {
                deliver(output, Sink::new(self.stdout), Sink::new(self.stderr), &ended).await
            } else {
                ended.cancelled().await;
                None
            }
        });
        let delivered = loop {
            tokio::select! {
                biased;
                delivered = &mut delivering => break delivered,
                failed = &mut feeding, if fed.is_none() => fed = Some(failed),
            }
        };
        delivered.or_else(|| fed.flatten())
    }
}

/// The error of a run whose output is not complete.
pub(super) fn lost(why: &'static str) -> StreamFailed {
    StreamFailed::new(None, Arc::new(io::Error::other(why)))
}

fn writer(code: &'static str, output: Output) -> Option<Writer> {
    match output {
        Output::Null => None,
        Output::Stream(writer) => Some(Guarded::new(code, writer)),
    }
}

fn failed(stream: StandardStream, error: io::Error) -> StreamFailed {
    StreamFailed::new(Some(stream), Arc::new(error))
}

/// Passes the host's input on, and then ends the container's. The container may stop reading at any time.
async fn feed(from: Option<Reader>, mut to: Pin<Box<dyn AsyncWrite + Send>>) -> Option<StreamFailed> {
    let mut from = from?;
    let mut buffer = vec![0; CHUNK];
    let broken = loop {
        match from.read(&mut buffer).await {
            Ok(0) => break None,
            Ok(read) => {
                let bytes = buffer.get(..read).unwrap_or_default();
                if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
                    return None;
                }
            }
            Err(error) => break Some(failed(StandardStream::Input, error)),
        }
    };
    drop(to.shutdown().await);
    broken
}

/// Passes output on until its end. The error is the first one, of either stream.
async fn deliver(
    mut frames: Frames,
    mut stdout: Sink,
    mut stderr: Sink,
    ended: &Context,
) -> Option<StreamFailed> {
    let broken = loop {
        let late = async {
            ended.cancelled().await;
            tokio::time::sleep(LATE).await;
        };
        let frame = tokio::select! {
            biased;
            frame = frames.next() => frame,
            () = late => {
                let why = "the engine does not end the output of a container that has ended";
                break Some(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        };
        match frame {
            None => break None,
            Some(Ok(frame)) if frame.is_stderr() => stderr.write(frame.bytes()).await,
            Some(Ok(frame)) => stdout.write(frame.bytes()).await,
            Some(Err(error)) => break Some(io::Error::other(error)),
        }
    };
    let (stdout, stderr) = tokio::join!(stdout.end(), stderr.end());
    let of_host = stdout
        .map(|error| failed(StandardStream::Output, error))
        .or_else(|| stderr.map(|error| failed(StandardStream::Error, error)));
    of_host.or_else(|| broken.map(|error| StreamFailed::new(None, Arc::new(error))))
}

/// Where one output goes. After its first error the rest is discarded.
struct Sink(Result<Option<Writer>, io::Error>);

impl Sink {
    fn new(writer: Option<Writer>) -> Self {
        Self(Ok(writer))
    }

    async fn write(&mut self, bytes: &[u8]) {
        let Ok(Some(writer)) = &mut self.0 else { return };
        if let Err(error) = writer.write_all(bytes).await {
            self.0 = Err(error);
        }
    }

    /// Flushes and ends the stream. Returns its first error.
    async fn end(self) -> Option<io::Error> {
        let Ok(writer) = self.0 else {
            return self.0.err();
        };
        let mut writer = writer?;
        let ended = async {
            writer.flush().await?;
            writer.shutdown().await
        };
        ended.await.err()
    }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
