//! `GET /containers/{id}/top`: the processes of a container, as the host's `ps` shows them.

use std::sync::Arc;

use serde_json::json;

use super::running::running;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::NoTable;

/// What `ps` is asked for if the client does not say.
const USUAL: &str = "-ef";

/// The processes.
pub(in crate::docker_api) async fn top(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let run = running(&served)?;
    let asked = request.query.get("ps_args").unwrap_or(USUAL);
    let table = run.table(asked).await.map_err(|error| match error {
        NoTable::NoPs(_) => Refused::failed(crate::chain(&error)),
        NoTable::Refused(_) | NoTable::NoPid => Refused::bad(error.to_string()),
    })?;
    Ok(Answer::ok(
        &json!({ "Titles": table.titles, "Processes": table.rows }),
    ))
}
