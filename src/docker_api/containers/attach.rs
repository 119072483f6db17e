//! `POST /containers/{id}/attach`: the connection becomes the container's streams.
//!
//! The output comes in frames: one byte for the stream, three zero bytes, the length (32 bits, most significant byte first),
//! and the bytes. What the client sends is the input as it is; the end of its side is the end of the input.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::front::Front;
use crate::docker_api::answer::{Answer, Taken};
use crate::docker_api::client::{hung_up, second};
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::docker_api::version::ApiVersion;
use crate::engine::{ServedAttachment, Stream, Wants};

const RAW: &str = "application/vnd.docker.raw-stream";
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// How much input is read at once.
const CHUNK: usize = 32 << 10;

/// How long the rest of the input of a client that is gone may take to reach the container.
const REST: Duration = Duration::from_secs(1);

type Input = Box<dyn AsyncWrite + Send + Unpin>;

/// Attaches to a container, also to one that was not started yet.
pub(in crate::docker_api) async fn attach(
    door: &Arc<Door>,
    given: &str,
    request: Request,
) -> Result<Answer, Refused> {
    let is_upgrade = request.wants_upgrade();
    let query = &request.query;
    let wants = Wants {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
    };
    let (is_streamed, wants_input) = (query.flag("stream"), query.flag("stdin"));
    let content_type = match is_upgrade && request.version >= ApiVersion::new(1, 42) {
        true => MULTIPLEXED,
        false => RAW,
    };
    let life = door.life.clone();
    let served = match door.container(given) {
        Ok(served) => served,
        Err(refused) => return Ok(Answer::Taken(missing(refused))),
    };
    let front = Front::of(&served).unwrap_or_default();
    let config = &front.body.config;
    let has_output = wants.stdout || wants.stderr;
    let mut attachment = match is_streamed {
        true => Some(served.attach(&door.life, wants).await?),
        false => None,
    };
    let ends = config.stdin_once || !config.open_stdin;
    let input = attachment
        .as_mut()
        .filter(|_| wants_input && config.open_stdin)
        .and_then(|attachment| attachment.take_input(ends));
    let attachment = attachment.filter(|_| has_output);
    let head = match is_upgrade {
        true => format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        ),
        false => format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n"),
    };
    let parts = Parts {
        attachment,
        input,
        ends_with_input: !ends,
    };
    let then = move |stream: UnixStream, early: Bytes| {
        let work = async move {
            // The server has ended, or the client is gone: the container stays as it is.
            if let Ok(Err(error)) = life.run(carry(stream, early, parts)).await {
                tracing::debug!(%error, "an attached client has left");
            }
        };
        Box::pin(work) as _
    };
    Ok(Answer::Taken(Taken {
        head,
        then: Box::new(then),
    }))
}

/// What flows over the connection.
struct Parts {
    attachment: Option<ServedAttachment>,
    input: Option<Input>,
    /// Whether the end of the client's side ends the attachment: the input of such a container stays open for others.
    ends_with_input: bool,
}

/// The answer for a container that does not exist is no JSON: the client has asked for a stream.
fn missing(refused: Refused) -> Taken {
    Taken {
        head: format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {RAW}\r\n\r\n{}\r\n",
            refused.status.as_u16(),
            refused.status.canonical_reason().unwrap_or_default(),
            refused.message
        ),
        then: Box::new(|_, _| Box::pin(std::future::ready(()))),
    }
}

/// Carries the streams until the output has ended, or the client is gone.
async fn carry(stream: UnixStream, early: Bytes, parts: Parts) -> io::Result<()> {
    let Parts {
        attachment,
        input,
        ends_with_input,
    } = parts;
    let watched = second(&stream)?;
    let gone = async {
        hung_up(watched).await;
        // What it has sent before reaches a container that reads.
        tokio::time::sleep(REST).await;
    };
    let (from, mut to) = stream.into_split();
    let has_input = input.is_some();
    let is_the_end = has_input && (ends_with_input || attachment.is_none());
    let deliver = async {
        match attachment {
            Some(attachment) => deliver(attachment, &mut to).await,
            // It is over when the input is.
            None if has_input => pending().await,
            None => Ok(()),
        }
    };
    let over = tokio::select! {
        over = deliver => over,
        over = feed(from, early, input, is_the_end) => over,
        () = gone => Ok(()),
    };
    drop(to.shutdown().await);
    over
}

/// Passes on what the client sends. Returns at the end of the client's side if that is the end of all.
async fn feed(
    mut from: OwnedReadHalf,
    early: Bytes,
    input: Option<Input>,
    is_the_end: bool,
) -> io::Result<()> {
    let Some(mut input) = input else {
        discard(&mut from).await?;
        return pending().await;
    };
    let fed = async {
        input.write_all(&early).await?;
        tokio::io::copy(&mut from, &mut input).await
    };
    match fed.await {
        Ok(_) => {
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

async fn discard(from: &mut OwnedReadHalf) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while from.read(&mut buffer).await? != 0 {}
    Ok(())
}

/// Sends the output until its end.
async fn deliver(mut attachment: ServedAttachment, to: &mut OwnedWriteHalf) -> io::Result<()> {
    while let Ok(chunk) = attachment.next().await {
        let kind = match chunk.stream {
            Stream::Stderr => 2,
            _ => 1,
        };
        let length = u32::try_from(chunk.bytes.len()).map_err(io::Error::other)?;
        let [a, b, c, d] = length.to_be_bytes();
        to.write_all(&[kind, 0, 0, 0, a, b, c, d]).await?;
        to.write_all(&chunk.bytes).await?;
    }
    Ok(())
}
