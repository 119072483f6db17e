//! A connection that was taken over: it becomes the streams of a container or of an exec.
//!
//! The output comes in frames (see [`super::frames`]), unless it is that of a terminal. What the client sends is the input as
//! it is; the end of its side is the end of the input.

use std::future::pending;
use std::io;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::client::{hung_up, second};
use super::frames::{content_type, frame_head};
use super::replay::Replay;
use super::version::ApiVersion;
use crate::detach_keys::DetachKeys;
use crate::engine::{Chunk, Exec, Listener, Over, ServedAttachment, Stream};

/// How much input is read at once.
const CHUNK: usize = 32 << 10;

/// How long the rest of the input of a client that is gone may take to reach the container.
const REST: Duration = Duration::from_secs(1);

pub(super) type Input = Box<dyn AsyncWrite + Send + Unpin>;

/// The head of the answer, up to its last line.
pub(super) fn head(is_upgrade: bool, is_raw: bool, version: ApiVersion) -> String {
    // Docker's answer without an upgrade is of the other type whatever comes.
    let content_type = content_type(is_raw || !is_upgrade, version);
    match is_upgrade {
        true => format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        ),
        false => format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n"),
    }
}

/// Where the output comes from.
pub(super) enum Output {
    OfContainer(ServedAttachment),
    /// Its end is known before the client sees the end of the output.
    OfExec(Listener, Exec),
}

impl Output {
    async fn next(&mut self) -> Result<Chunk, Over> {
        match self {
            Self::OfContainer(attachment) => attachment.next().await,
            Self::OfExec(listener, exec) => match listener.next().await {
                Err(over) => {
                    exec.ended().await;
                    Err(over)
                }
                next => next,
            },
        }
    }
}

/// What flows over the connection.
pub(super) struct Parts {
    pub(super) output: Option<Output>,
    pub(super) input: Option<Input>,
    /// Whether the end of the client's side ends the attachment: the input of such a container stays open for others.
    pub(super) ends_with_input: bool,
    /// Whether the output has no frames, as that of a terminal.
    pub(super) is_raw: bool,
    /// The keys with which the client leaves, if the input is that of a terminal.
    pub(super) keys: Option<DetachKeys>,
    /// What was written before, which comes first.
    pub(super) replay: Option<Replay>,
}

/// Carries the streams until the output has ended, or the client is gone.
pub(super) async fn carry(stream: UnixStream, early: Bytes, parts: Parts) -> io::Result<()> {
    let Parts {
        output,
        input,
        ends_with_input,
        is_raw,
        keys,
        replay,
    } = parts;
    let watched = second(&stream)?;
    let gone = async {
        hung_up(watched).await;
        // What it has sent before reaches a container that reads.
        tokio::time::sleep(REST).await;
    };
    let (from, mut to) = stream.into_split();
    let has_input = input.is_some();
    let is_the_end = has_input && (ends_with_input || output.is_none());
    let deliver = async {
        if let Some(mut replay) = replay {
            while let Some(part) = replay.next().await {
                to.write_all(&part?).await?;
            }
        }
        match output {
            Some(output) => deliver(output, is_raw, &mut to).await,
            // It is over when the input is.
            None if has_input => pending().await,
            None => Ok(()),
        }
    };
    let over = tokio::select! {
        over = deliver => over,
        over = feed(from, early, input.map(|input| (input, keys)), is_the_end) => over,
        () = gone => Ok(()),
    };
    drop(to.shutdown().await);
    over
}

/// Passes on what the client sends. Returns when the client leaves by its keys, and at the end of the client's side if that
/// is the end of all.
async fn feed(
    mut from: OwnedReadHalf,
    early: Bytes,
    input: Option<(Input, Option<DetachKeys>)>,
    is_the_end: bool,
) -> io::Result<()> {
    let Some((mut input, keys)) = input else {
        discard(&mut from).await?;
        return pending().await;
    };
    let fed = async {
        match keys {
            Some(keys) => type_in(&mut from, early, &mut input, keys).await,
            None => {
                input.write_all(&early).await?;
                tokio::io::copy(&mut from, &mut input).await?;
                Ok(End::OfClient)
            }
        }
    };
    match fed.await {
        Ok(End::Detached) => return Ok(()),
        Ok(End::OfClient) => {
            drop(input.shutdown().await);
            if is_the_end {
                return Ok(());
            }
        }
        // The container reads no more: what the client still sends is discarded.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => discard(&mut from).await?,
        Err(error) => return Err(error),
    }
    pending().await
}

/// How the input of a client has ended.
enum End {
    /// Its side was closed.
    OfClient,
    /// It has left by its keys.
    Detached,
}

/// Passes on what is typed at a terminal.
async fn type_in(
    from: &mut OwnedReadHalf,
    early: Bytes,
    input: &mut Input,
    mut keys: DetachKeys,
) -> io::Result<End> {
    let (mut buffer, mut next) = (vec![0; CHUNK], early);
    loop {
        let typed = keys.feed(&next);
        input.write_all(&typed.bytes).await?;
        input.flush().await?;
        if typed.is_detached {
            return Ok(End::Detached);
        }
        match from.read(&mut buffer).await? {
            0 => return Ok(End::OfClient),
            read => next = Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default()),
        }
    }
}

async fn discard(from: &mut OwnedReadHalf) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while from.read(&mut buffer).await? != 0 {}
    Ok(())
}

/// Sends the output until its end.
async fn deliver(mut output: Output, is_raw: bool, to: &mut OwnedWriteHalf) -> io::Result<()> {
    while let Ok(chunk) = output.next().await {
        match is_raw {
            true => to.write_all(&chunk.bytes).await?,
            false => send(to, chunk.stream, &chunk.bytes).await?,
        }
    }
    Ok(())
}

/// Sends a frame.
pub(super) async fn send(to: &mut (impl AsyncWrite + Unpin), stream: Stream, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&frame_head(stream, bytes.len())?).await?;
    to.write_all(bytes).await
}
