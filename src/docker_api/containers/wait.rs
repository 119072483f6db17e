//! `POST /containers/{id}/wait`: the head of the answer comes at once, its body when it has happened.

use std::sync::Arc;

use futures_util::stream;
use serde_json::{Value, json};

use super::failure;
use super::state::LOST;
use crate::Context;
use crate::docker_api::answer::{Answer, line};
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{self, Served, Until};

/// Waits for the end of a container, or its removal.
pub(in crate::docker_api) fn wait(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let until = match request.query.get("condition") {
        None | Some("not-running") => Until::NotRunning,
        Some("next-exit") => Until::NextExit,
        Some("removed") => Until::Removed,
        Some(other) => return Err(Refused::bad(format!("invalid condition: \"{other}\""))),
    };
    // Before the head of the answer is sent: the client may start the container as soon as it has that.
    let ended = served.wait_until(&request.client, until);
    // Who waits for a removal is not told why a start has failed: whoever has started it is.
    let tells_failure = until == Until::NotRunning;
    let waited = door
        .tracker
        .spawn(outcome(served, ended, tells_failure, request.client.clone()));
    let body =
        stream::once(async move { line(&waited.await.unwrap_or_else(|error| failed(&error.to_string()))) });
    Ok(Answer::json_stream(body))
}

async fn outcome(
    served: Arc<Served>,
    ended: impl Future<Output = Result<Option<u32>, engine::Error>>,
    tells_failure: bool,
    client: Context,
) -> Value {
    let waited = ended.await;
    if client.check().is_err() {
        return failed("context canceled");
    }
    match waited {
        Ok(Some(code)) => json!({ "StatusCode": code }),
        Ok(None) => without_code(&served, tells_failure),
        Err(error) => failed(&crate::chain(&error)),
    }
}

/// What is told of a container without a run whose end is known.
fn without_code(served: &Served, tells_failure: bool) -> Value {
    match served.look().start_error {
        Some(error) => {
            let mut told = json!({ "StatusCode": failure::code(&error) });
            if tells_failure {
                told["Error"] = json!({ "Message": failure::words(&error) });
            }
            told
        }
        None if served.container().has_never_run() => json!({ "StatusCode": 0 }),
        None => json!({ "StatusCode": LOST }),
    }
}

fn failed(why: &str) -> Value {
    json!({ "Error": { "Message": why }, "StatusCode": -1 })
}
