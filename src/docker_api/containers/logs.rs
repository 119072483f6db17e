//! `GET /containers/{id}/logs`: the output that was kept.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::stream;

use super::front::Front;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::frames::content_type;
use crate::docker_api::query::Query;
use crate::docker_api::refused::Refused;
use crate::docker_api::replay::Replay;
use crate::docker_api::request::Request;
use crate::docker_api::time::moment;
use crate::engine::{Kind, LogQuery, LogReader, Served, Wants};

/// The output of a container, in frames unless it is that of a terminal. The head of the answer comes at once.
pub(in crate::docker_api) async fn logs(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let query = &request.query;
    let wants = Wants {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
    };
    if !wants.stdout && !wants.stderr {
        return Err(Refused::bad(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let served = door.container(given)?;
    let asked = LogQuery {
        // What is no number is all, and so is a negative one.
        tail: query.get("tail").and_then(|tail| tail.parse().ok()),
        since: time(query, "since")?,
        until: time(query, "until")?,
    };
    let is_raw = has_terminal(&served);
    let reader = opened(&served, asked, query.flag("follow")).await?;
    let replay = Replay {
        reader,
        wants,
        is_raw,
        has_times: query.flag("timestamps"),
        has_details: query.flag("details"),
    };
    let client = request.client.clone();
    let parts = stream::unfold((replay, client), |(mut replay, client)| async move {
        // The client has gone, or the server ends.
        let part = client.run(replay.next()).await.ok().flatten()?;
        Some((part, (replay, client)))
    });
    Ok(Answer::stream(Some(content_type(is_raw, request.version)), parts))
}

/// Reads what was kept, and more as it is written if the reader `follows`.
async fn opened(served: &Served, asked: LogQuery, follows: bool) -> Result<LogReader, Refused> {
    served
        .log(asked, follows)
        .await
        .map_err(|error| match error.kind() {
            Kind::Unsupported => Refused::new(
                hyper::StatusCode::NOT_IMPLEMENTED,
                "configured logging driver does not support reading",
            ),
            _ => error.into(),
        })
}

/// What was kept until now, for a client that attaches.
pub(super) async fn until_now(served: &Served, wants: Wants) -> Result<Replay, Refused> {
    Ok(Replay {
        reader: opened(served, LogQuery::default(), false).await?,
        wants,
        is_raw: has_terminal(served),
        has_times: false,
        has_details: false,
    })
}

/// A moment; 0 is none.
fn time(query: &Query, name: &str) -> Result<Option<SystemTime>, Refused> {
    match query.get(name) {
        None | Some("0") => Ok(None),
        Some(text) => moment(text)
            .map(Some)
            .ok_or_else(|| Refused::failed(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))),
    }
}

fn has_terminal(served: &Served) -> bool {
    Front::of(served).is_some_and(|front| front.has_terminal())
}
