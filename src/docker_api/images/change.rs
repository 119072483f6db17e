//! Names images, and removes them.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::read::names;
use crate::Context;
use crate::docker_api::answer::Answer;
use crate::docker_api::containers::Front;
use crate::docker_api::door::Door;
use crate::docker_api::filters::Filters;
use crate::docker_api::image_names::{found, no_such_image, tagged};
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{self, ImageError, Kind, Reference, Removed, Served};

/// `POST /images/{name}/tag`.
pub(in crate::docker_api) async fn tag(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let repository = request.query.get("repo").unwrap_or_default();
    let name = tagged(repository, request.query.get("tag"))?;
    if name.digest().is_some() {
        return Err(Refused::bad("cannot import digest reference"));
    }
    match door.engine.tag(&Context::new(), given, &name).await {
        Err(error) if error.kind() == Kind::NotFound => Err(no_such_image(given)),
        tagged => {
            tagged?;
            Ok(Answer::empty(StatusCode::CREATED))
        }
    }
}

/// `DELETE /images/{name}`.
pub(in crate::docker_api) async fn remove(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let force = request.query.flag("force");
    let stored = door.engine.stored_images(&Context::new()).await?;
    let (image, by_name) = found(&stored, given)?;
    let count = names(image).count();
    let id: String = super::read::id(image)
        .trim_start_matches("sha256:")
        .chars()
        .take(12)
        .collect();
    if by_name.is_none()
        && let Some(refused) = in_use(door, &super::read::id(image), &id, force)
    {
        return Err(refused);
    }
    if by_name.is_none() && count > 1 && !force {
        return Err(Refused::conflict(format!(
            "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
        )));
    }
    let removed = door.engine.remove_image(&Context::new(), given, force).await;
    let removed = removed.map_err(|error| refused(error, given, &id))?;
    Ok(Answer::ok(&told(&removed)))
}

/// The refusal to remove an image by its id that a container has. One that runs keeps it in any case.
fn in_use(door: &Door, image: &str, shown: &str, force: bool) -> Option<Refused> {
    let users: Vec<_> = door
        .server
        .containers()
        .into_iter()
        .filter(|served| Front::of(served).is_some_and(|front| front.image_id() == image))
        .collect();
    let short = |served: &Served| served.id().as_str().chars().take(12).collect::<String>();
    if let Some(running) = users.iter().find(|served| served.container().is_running()) {
        return Some(Refused::conflict(format!(
            "conflict: unable to delete {shown} (cannot be forced) - image is being used by running container {}",
            short(running)
        )));
    }
    let stopped = users.first().filter(|_| !force)?;
    Some(Refused::conflict(format!(
        "conflict: unable to delete {shown} (must be forced) - image is being used by stopped container {}",
        short(stopped)
    )))
}

fn refused(error: engine::Error, given: &str, id: &str) -> Refused {
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref());
    match cause {
        Some(ImageError::InUse { container, .. }) => {
            let container: String = container.chars().take(12).collect();
            Refused::conflict(format!(
                "conflict: unable to remove repository reference \"{given}\" (must force) - container {container} is using its \
                 referenced image {id}"
            ))
        }
        Some(ImageError::NoSuchImage { .. }) => no_such_image(given),
        _ => error.into(),
    }
}

/// What was removed, an object for each.
fn told(removed: &Removed) -> Vec<Value> {
    let familiar =
        |name: &String| Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar());
    let untagged = removed
        .names
        .iter()
        .map(|name| json!({ "Untagged": familiar(name) }));
    let deleted = removed.ids.iter().map(|id| json!({ "Deleted": id.to_string() }));
    untagged.chain(deleted).collect()
}

/// `POST /images/prune`: images without a name, or with the filter `dangling=false` all that no container uses.
pub(in crate::docker_api) async fn prune(door: &Arc<Door>, request: &Request) -> Result<Answer, Refused> {
    let filters = Filters::of(&request.query, &["dangling"])?;
    let all = filters
        .values("dangling")
        .iter()
        .any(|value| ["0", "false"].contains(&value.as_str()));
    let removed = door.engine.prune_images(&Context::new(), all).await?;
    let told = told(&removed);
    let told = if told.is_empty() { Value::Null } else { told.into() };
    Ok(Answer::ok(
        &json!({ "ImagesDeleted": told, "SpaceReclaimed": removed.freed }),
    ))
}
