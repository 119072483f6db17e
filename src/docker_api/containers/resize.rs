//! `POST /containers/{id}/resize`.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::CONTENT_LENGTH;

use super::running::running;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::docker_api::terminal;

/// Changes the size of a container's terminal.
pub(in crate::docker_api) async fn resize(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let size = terminal::new_size(&request.query)?;
    let served = door.container(given)?;
    running(&served)?.resize(&door.life, size).await?;
    Ok(Answer::empty(StatusCode::OK).with(CONTENT_LENGTH, "0"))
}
