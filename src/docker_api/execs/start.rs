//! `POST /exec/{id}/start`: starts an exec, whose streams the connection becomes, unless it is detached.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::CONTENT_LENGTH;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::create::out_of_order;
use crate::Context;
use crate::detach_keys::DetachKeys;
use crate::docker_api::answer::{self, Answer, Taken};
use crate::docker_api::carry::{self, Output, Parts, carry};
use crate::docker_api::containers::failed_start_code;
use crate::docker_api::door::Door;
use crate::docker_api::exec_registry::{Entry, State};
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::docker_api::terminal;
use crate::engine::{Exec, Kind, SharedStreams, Stream, Wants};

/// How long a change of size waits for the start. Docker's limit.
const STARTED: Duration = Duration::from_secs(10);

/// How long the end of an input may take to be passed on.
const ENDED: Duration = Duration::from_secs(5);

/// Starts an exec. It comes to its end whether or not the client stays. If it is attached, the answer comes before the start,
/// and a failure is written into the stream.
pub(in crate::docker_api) async fn start(
    door: &Arc<Door>,
    id: &str,
    request: Request,
) -> Result<Answer, Refused> {
    let body = request.json()?;
    let entry = door.exec(id)?;
    let is_raw = body.flag("Tty")?;
    let size = terminal::console_size(&body)?;
    if body.flag("Detach")? {
        started(door, &entry, size, None).await?;
        return Ok(Answer::empty(StatusCode::OK).with(CONTENT_LENGTH, "0"));
    }
    let is_upgrade = request.wants_upgrade();
    let head = carry::head(is_upgrade, is_raw, request.version);
    // Docker's answer has these with an upgrade only.
    let head = match is_upgrade {
        true => format!("{head}{}\r\n", answer::common_lines()),
        false => format!("{head}\r\n"),
    };
    let how = How { is_raw, size };
    let door = Arc::clone(door);
    let then = move |stream: UnixStream, early: Bytes| {
        let work = async move {
            let life = door.life.clone();
            if let Ok(Err(error)) = life.run(attached(&door, &entry, how, stream, early)).await {
                tracing::debug!(%error, "the client of an exec has left");
            }
        };
        Box::pin(work) as _
    };
    Ok(Answer::Taken(Taken {
        head,
        then: Box::new(then),
    }))
}

/// What a client says of its side.
struct How {
    /// It expects no frames.
    is_raw: bool,
    size: Option<(u16, u16)>,
}

/// Changes the size of an exec's terminal. Clients ask for it at the same time as for the start, so it waits for that.
pub(in crate::docker_api) async fn resize(
    door: &Arc<Door>,
    id: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let size = terminal::new_size(&request.query)?;
    let entry = door.exec(id)?;
    let ctx = door.life.with_timeout(STARTED);
    match ctx.run(entry.started()).await {
        Ok(State::Started(exec)) if exec.end_now().is_none() => {
            if entry.asked.tty {
                exec.resize(&ctx, size).await?;
            }
            Ok(Answer::empty(StatusCode::OK).with(CONTENT_LENGTH, "0"))
        }
        Ok(_) => Err(Refused::conflict(format!("exec {} is not running", entry.id))),
        Err(_) => Err(Refused::failed(format!(
            "timeout waiting for exec {} to start",
            entry.id
        ))),
    }
}

/// Starts an exec and carries its streams.
async fn attached(
    door: &Arc<Door>,
    entry: &Arc<Entry>,
    how: How,
    mut stream: UnixStream,
    early: Bytes,
) -> io::Result<()> {
    let asked = &entry.asked;
    let streams = match asked.stdin {
        true => SharedStreams::with_input(),
        false => SharedStreams::output(),
    };
    // Before the start, so that nothing is missed.
    let listener = streams.listen_patiently(Wants {
        stdout: asked.stdout,
        stderr: asked.stderr,
    });
    // The end of a terminal's input would hang it up.
    let input = streams.writer(!asked.tty).map(|input| Box::new(input) as _);
    match started(door, entry, how.size, Some(streams.clone())).await {
        Ok(exec) => {
            let parts = Parts {
                output: Some(Output::OfExec(listener, exec)),
                input,
                ends_with_input: false,
                is_raw: how.is_raw,
                keys: DetachKeys::parse(&asked.detach_keys).filter(|_| asked.tty),
                replay: None,
            };
            let carried = carry(stream, early, parts).await;
            // Whatever has become of the client, nobody else can end the input.
            if let Some(mut input) = streams.writer(true).filter(|_| !asked.tty) {
                drop(tokio::time::timeout(ENDED, input.shutdown()).await);
            }
            carried
        }
        Err(refused) => {
            let text = format!("{}\r\n", refused.message);
            match how.is_raw {
                true => stream.write_all(text.as_bytes()).await?,
                false => carry::send(&mut stream, Stream::Stdout, text.as_bytes()).await?,
            }
            stream.shutdown().await
        }
    }
}

/// Starts the process of an exec, and notes how that has gone.
async fn started(
    door: &Arc<Door>,
    entry: &Arc<Entry>,
    size: Option<(u16, u16)>,
    streams: Option<SharedStreams>,
) -> Result<Exec, Refused> {
    let container = entry.served.container();
    if !container.is_running() || container.is_frozen() {
        return Err(out_of_order(&entry.served, entry.served.id().as_str()));
    }
    entry.begin()?;
    let entry = Arc::clone(entry);
    let start = async move {
        let container = entry.served.container();
        let plan = match size {
            Some(size) => entry.plan.clone().with_size(size),
            None => entry.plan.clone(),
        };
        let started = container.exec(&Context::new(), &entry.id, plan, streams).await;
        match started {
            Ok(exec) => {
                entry.set(State::Started(exec.clone()));
                Ok(exec)
            }
            Err(error) => {
                let text = crate::chain(&error);
                entry.set(State::Failed(failed_start_code(&text)));
                Err(match error.kind() {
                    Kind::OutOfOrder => out_of_order(&entry.served, entry.served.id().as_str()),
                    _ => words(&text).map_or_else(|| Refused::from(error), Refused::bad),
                })
            }
        }
    };
    door.finish(start).await
}

/// The runtime's words about a program that cannot be executed, as Docker shows them; `None` for any other failure.
fn words(error: &str) -> Option<String> {
    let at = error.find("OCI runtime exec failed: ")?;
    let words = error.get(at..)?;
    Some(words.strip_suffix(": unknown").unwrap_or(words).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_executed_is_told_in_the_runtime_s_words() {
        let ours = "cannot execute a command in c: containerd refused Tasks/Start for c: OCI runtime exec failed: exec failed: \
                    unable to start container process: exec: \"x\": executable file not found in $PATH: unknown";
        let theirs = "OCI runtime exec failed: exec failed: unable to start container process: exec: \"x\": executable \
                      file not found in $PATH";
        assert_eq!(words(ours).as_deref(), Some(theirs));
        assert_eq!(words("cannot execute a command in c: it is frozen"), None);
        assert_eq!((failed_start_code(ours), failed_start_code("else")), (127, 128));
    }
}
