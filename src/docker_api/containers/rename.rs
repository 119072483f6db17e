//! `POST /containers/{id}/rename`.

use std::sync::Arc;

use hyper::StatusCode;

use super::names;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::Kind;

/// Gives a container another name.
pub(in crate::docker_api) async fn rename(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let asked = request.query.get("name").unwrap_or_default();
    if asked.is_empty() {
        return Err(Refused::bad("Neither old nor new names may be empty"));
    }
    let served = door.container(given)?;
    let allocating = |refused: Refused| Refused {
        message: format!("Error when allocating new name: {}", refused.message),
        ..refused
    };
    // Docker looks at the name with the slash that it is stored with.
    let asked = format!("/{}", asked.trim_start_matches('/'));
    let name = names::given(&asked).map_err(allocating)?;
    if served.name().as_deref().unwrap_or_else(|| served.id().as_str()) == name.as_str() {
        return Err(Refused::bad(
            "Renaming a container with the same name as its current name",
        ));
    }
    let (this, taken) = (Arc::clone(door), name.clone());
    let rename = async move { Ok(this.server.rename(&served, name).await) };
    match door.finish(rename).await? {
        Err(error) if error.kind() == Kind::Conflict => Err(allocating(names::taken(door, &taken))),
        renamed => {
            renamed?;
            Ok(Answer::empty(StatusCode::NO_CONTENT))
        }
    }
}
