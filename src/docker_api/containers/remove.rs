//! Removal: on request, at a container's own end, and of all that have ended.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use super::front::Front;
use super::labels;
use super::running::alive;
use crate::Context;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::filters::Filters;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{self, Kind, Served, State, Until, VolumeUse};
use crate::pauses::Pauses;

/// The first and the longest pause before the end of a container is waited for again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Removes a container; one that runs only with `force`.
pub(in crate::docker_api) async fn remove(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    if request.query.flag("link") {
        return Err(Refused::bad("fnctr does not serve links; leave link out"));
    }
    let served = door.container(given)?;
    let state = served.look().state;
    let name = given.trim_start_matches('/');
    if state == State::Removing {
        return Err(in_progress(name));
    }
    let force = request.query.flag("force");
    let is_alive = alive(&served).is_some() || matches!(state, State::Lost | State::Restarting);
    if is_alive && !force {
        let (is, how) = match state {
            State::Frozen => (
                "paused",
                "unpause and then stop the container before removing or force remove",
            ),
            State::Restarting => ("restarting", "stop the container before removing or force remove"),
            _ => ("running", "stop the container before removing or force remove"),
        };
        return Err(Refused::conflict(format!(
            "cannot remove container \"{name}\": container is {is}: {how}"
        )));
    }
    let this = Arc::clone(door);
    let with_volumes = request.query.flag("v");
    let remove = async move {
        let used = volumes_of(&served);
        match force {
            true => this.server.remove(&served).await?,
            // One that is being started at this moment stays.
            false => this.server.remove_unless_started(&served).await?,
        }
        if with_volumes {
            this.engine.remove_anonymous_volumes(&Context::new(), &used).await;
        }
        Ok::<_, engine::Error>(())
    };
    match door.finish(async move { Ok(remove.await) }).await? {
        Err(error) if error.kind() == Kind::Busy => Err(in_progress(name)),
        Err(error) if error.kind() == Kind::Conflict => Err(Refused::conflict(format!(
            "cannot remove container \"{name}\": container is running: stop the container before removing or force remove"
        ))),
        removed => {
            removed?;
            Ok(Answer::empty(StatusCode::NO_CONTENT))
        }
    }
}

/// The volumes that a container uses.
fn volumes_of(served: &Served) -> Vec<VolumeUse> {
    served.plan().map(|plan| plan.volumes.clone()).unwrap_or_default()
}

fn in_progress(name: &str) -> Refused {
    Refused::conflict(format!("removal of container {name} is already in progress"))
}

/// Removes the container when it does not run any more, if that was asked for.
pub(super) fn at_its_end(door: &Arc<Door>, served: &Arc<Served>, front: &Front) {
    if !front.is_removed_at_its_end() {
        return;
    }
    let (this, served) = (Arc::clone(door), Arc::clone(served));
    door.tracker.spawn(async move {
        remove_at_its_end(&this, &served).await;
    });
}

/// Waits for the end. If the server ends first, the next one removes the container.
async fn remove_at_its_end(door: &Door, served: &Arc<Served>) {
    let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
    loop {
        let ended = served.container().wait_until(&door.life, Until::NotRunning);
        match door.life.run(ended).await {
            Err(_) => return,
            Ok(Ok(_)) => break,
            Ok(Err(error)) if error.kind() == Kind::NotFound => return,
            Ok(Err(error)) => {
                tracing::debug!(id = %served.id(), error = %crate::chain(&error), "cannot wait for the end of a container; trying again");
            }
        }
        if door.life.run(pauses.wait()).await.is_err() {
            return;
        }
    }
    if served.look().state == State::Lost {
        // Its processes run, and containerd has lost them: they are the user's to end.
        return;
    }
    if door.is_restarting(served.id()) {
        return;
    }
    let used = volumes_of(served);
    loop {
        match door.server.remove_unless_started(served).await {
            Ok(()) => {
                return door.engine.remove_anonymous_volumes(&Context::new(), &used).await;
            }
            // It was started again, and the end of that run is looked after by whoever has started it; or it is gone.
            Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => return,
            Err(error) => {
                tracing::warn!(id = %served.id(), error = %crate::chain(&error), "cannot remove a container at its end; trying again");
            }
        }
        if door.life.run(pauses.wait()).await.is_err() {
            return;
        }
    }
}

/// Does the same for the containers that an earlier server has left, but for those that have never run.
pub(in crate::docker_api) fn remove_ended(door: &Arc<Door>) {
    for served in door.server.containers() {
        match Front::of(&served) {
            Some(front) if !served.container().has_never_run() => at_its_end(door, &served, &front),
            _ => {}
        }
    }
}

/// Removes all containers that do not run.
pub(in crate::docker_api) async fn prune(door: &Arc<Door>, request: &Request) -> Result<Answer, Refused> {
    let filters = Filters::of(&request.query, &["label", "label!", "until"])?;
    let until = filters.until()?;
    let mut removed = Vec::new();
    for served in door.server.containers() {
        let container = served.look();
        let labels = labels::shown(&container.labels);
        let is_chosen = filters.labels(&labels)
            && until.is_none_or(|until| container.created_at.is_some_and(|at| at < until));
        let is_over = matches!(container.state, State::Created | State::Exited(_) | State::Dead);
        if !is_over || !is_chosen || container.last_run.is_none() {
            continue;
        }
        match door.server.remove_unless_started(&served).await {
            Ok(()) => removed.push(container.id.to_string()),
            Err(error) => {
                tracing::info!(id = %container.id, error = %crate::chain(&error), "a prune leaves a container");
            }
        }
    }
    let removed = if removed.is_empty() { None } else { Some(removed) };
    Ok(Answer::ok(
        &json!({ "ContainersDeleted": removed, "SpaceReclaimed": 0 }),
    ))
}
