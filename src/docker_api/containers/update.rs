//! `POST /containers/{id}/update`.

use std::sync::Arc;

use serde_json::json;

use super::body::HostConfig;
use super::front::Front;
use super::{body, resources, restart_policy, unsupported};
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{Served, Update};

/// Changes the limits of a container, whether it runs or not.
pub(in crate::docker_api) async fn update(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let body = request.json()?;
    unsupported::check_update(&body)?;
    let id = served.id().to_string();
    let cannot = |refused: Refused| Refused {
        message: format!("Cannot update container {id}: {}", refused.message),
        ..refused
    };
    let front = Front::of(&served);
    let mut host = now(&served, front.as_deref());
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let limits = resources::change(&mut host, &body, cpus)?;
    let policy = body::restart_policy(&body)?;
    let restart = match policy.name.is_empty() {
        true => None,
        false => Some(restart_policy::of(&policy, host.auto_remove)?),
    };
    if restart.is_some() {
        host.restart_policy = policy;
    }
    let front = front.and_then(|front| {
        let mut front = Front::clone(&front);
        front.body.host_config = host;
        front.to_value()
    });
    let this = Arc::clone(door);
    let update = Update {
        limits,
        restart,
        front,
    };
    let work = async move { Ok(this.server.update(&served, update).await) };
    door.finish(work).await?.map_err(|error| cannot(error.into()))?;
    Ok(Answer::ok(&json!({ "Warnings": null })))
}

/// The limits of a container as they are.
fn now(served: &Served, front: Option<&Front>) -> HostConfig {
    let host = front
        .map(|front| front.body.host_config.clone())
        .unwrap_or_default();
    match served.plan() {
        Ok(plan) => resources::shown(&host, &plan.config.resources),
        Err(_) => host,
    }
}
