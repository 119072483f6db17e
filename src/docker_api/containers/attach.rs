//! `POST /containers/{id}/attach`: the connection becomes the container's streams.

use std::sync::Arc;

use hyper::body::Bytes;
use tokio::net::UnixStream;

use super::front::Front;
use super::logs;
use crate::detach_keys::DetachKeys;
use crate::docker_api::answer::{Answer, Taken};
use crate::docker_api::carry::{self, Output, Parts, carry};
use crate::docker_api::door::Door;
use crate::docker_api::frames::RAW;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::Wants;

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
    let life = door.life.clone();
    let served = match door.container(given) {
        Ok(served) => served,
        Err(refused) => return Ok(Answer::Taken(missing(refused))),
    };
    let front = Front::of(&served).unwrap_or_default();
    let config = &front.body.config;
    let has_output = wants.stdout || wants.stderr;
    let given_keys = query.get("detachKeys").unwrap_or_default();
    let keys = DetachKeys::parse(given_keys)
        .ok_or_else(|| Refused::bad(format!("Invalid detach keys ({given_keys}) provided")))?;
    let mut attachment = match is_streamed {
        true => Some(served.attach(&door.life, wants).await?),
        false => None,
    };
    let replay = match query.flag("logs") && has_output {
        true => Some(logs::until_now(&served, wants).await?),
        false => None,
    };
    // The end of a terminal's input would hang it up.
    let ends = (config.stdin_once || !config.open_stdin) && !config.tty;
    let input = attachment
        .as_mut()
        .filter(|_| wants_input && config.open_stdin)
        .and_then(|attachment| attachment.take_input(ends));
    let parts = Parts {
        output: attachment.filter(|_| has_output).map(Output::OfContainer),
        input,
        ends_with_input: !ends,
        is_raw: config.tty,
        keys: config.tty.then_some(keys),
        replay,
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
        head: format!("{}\r\n", carry::head(is_upgrade, config.tty, request.version)),
        then: Box::new(then),
    }))
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
