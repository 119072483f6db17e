//! Removes networks.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::known::Known;
use super::read::endpoints;
use super::view::labels;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::filters::Filters;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{DEFAULT_NETWORK, Kind};

/// `DELETE /networks/{name}`.
pub(in crate::docker_api) async fn remove(door: &Arc<Door>, given: &str) -> Result<Answer, Refused> {
    let forbidden = |why: String| Refused::new(StatusCode::FORBIDDEN, why);
    let known = Known::find(door, given).await?;
    let network = match &known {
        Known::Configured(network) if !known.is_predefined() => network.name.clone(),
        _ => {
            return Err(forbidden(format!(
                "{} is a pre-defined network and cannot be removed",
                known.name()
            )));
        }
    };
    let on_it = endpoints(door, &known).await;
    if !on_it.is_empty() {
        let shown = on_it.iter().map(|endpoint| {
            let short: String = endpoint.id.chars().take(12).collect();
            format!("name:{:?} id:{short:?}", endpoint.name)
        });
        return Err(forbidden(format!(
            "error while removing network: network {} has active endpoints ({})",
            known.name(),
            shown.collect::<Vec<_>>().join(", ")
        )));
    }
    let (engine, name) = (door.engine.clone(), network.clone());
    let removed = door
        .finish(async move { Ok(engine.remove_network(&name).await) })
        .await?;
    match removed {
        Err(error) if error.kind() == Kind::InvalidPlan => {
            Err(Refused::missing(format!("network {given} not found")))
        }
        // In use by another containerd of this host, or configured by another program.
        Err(error) if error.kind() == Kind::Conflict => Err(forbidden(format!(
            "error while removing network: {}",
            crate::chain(&error)
        ))),
        removed => {
            removed?;
            Ok(Answer::empty(StatusCode::NO_CONTENT))
        }
    }
}

/// `POST /networks/prune`: the networks that fnctr has configured and that no container runs on.
pub(in crate::docker_api) async fn prune(door: &Arc<Door>, request: &Request) -> Result<Answer, Refused> {
    let filters = Filters::of(&request.query, &["label", "label!", "until"])?;
    let until = filters.until()?;
    let removed = door
        .engine
        .prune_networks(|network| {
            let labels = labels(&Known::Configured(Box::new(network.clone())));
            network.name != DEFAULT_NETWORK
                && filters.labels(&labels)
                && until.is_none_or(|until| network.about.created_at.is_some_and(|at| at < until))
        })
        .await?;
    let removed = if removed.is_empty() {
        Value::Null
    } else {
        json!(removed)
    };
    Ok(Answer::ok(&json!({ "NetworksDeleted": removed })))
}
