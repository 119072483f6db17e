//! `POST /containers/{id}/wait`: the head of the answer comes at once, its body when it has happened.

use std::sync::Arc;

use futures_util::stream;
use serde_json::{Value, json};

use super::state::{LOST, code_of_failure};
use crate::Context;
use crate::docker_api::answer::{Answer, line};
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{self, Served, State, Until};

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
    // It begins with the request, not with the first read of the body: nothing may be missed in between.
    let waited = door.tracker.spawn(outcome(served, until, request.client.clone()));
    let body =
        stream::once(async move { line(&waited.await.unwrap_or_else(|error| failed(&error.to_string()))) });
    Ok(Answer::json_stream(body))
}

async fn outcome(served: Arc<Served>, until: Until, client: Context) -> Value {
    match client.run(code(&served, until, &client)).await {
        Ok(Ok(code)) => match code.or_else(|| code_of_last_start(&served)) {
            Some(code) => json!({ "StatusCode": code }),
            None if served.container().has_never_run() => json!({ "StatusCode": 0 }),
            None => json!({ "StatusCode": LOST }),
        },
        Ok(Err(error)) => failed(&crate::chain(&error)),
        Err(_) => failed("context canceled"),
    }
}

async fn code(served: &Served, until: Until, ctx: &Context) -> Result<Option<u32>, engine::Error> {
    match (until, served.look().state) {
        // Nothing is asked of containerd, and the container may be gone the next moment.
        (Until::NotRunning, State::Exited(code)) => Ok(Some(code)),
        (Until::NotRunning, State::Created | State::Dead) => Ok(None),
        _ => served.container().wait_until(ctx, until).await,
    }
}

fn code_of_last_start(served: &Served) -> Option<u32> {
    served.look().start_error.as_deref().and_then(code_of_failure)
}

fn failed(why: &str) -> Value {
    json!({ "Error": { "Message": why }, "StatusCode": -1 })
}
