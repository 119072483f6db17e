//! Lists and shows networks.

use std::sync::Arc;

use super::known::Known;
use super::view::{Endpoint, labels, shape};
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::filters::{Filters, is_named};
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;

/// `GET /networks`.
pub(in crate::docker_api) async fn list(door: &Arc<Door>, request: &Request) -> Result<Answer, Refused> {
    const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
    let filters = Filters::of(&request.query, &FILTERS)?;
    if let Some(odd) = filters
        .values("type")
        .iter()
        .find(|kind| !["custom", "builtin"].contains(&kind.as_str()))
    {
        return Err(Refused::bad(format!("invalid filter: 'type'='{odd}'")));
    }
    let all = Known::all(door).await?;
    let mut shown = Vec::new();
    for known in &all {
        let shape = shape(known, &[]);
        let driver = shape["Driver"].as_str().unwrap_or_default();
        let is_chosen = filters.any("driver", |wanted| wanted == driver)
            && filters.any("id", |wanted| is_named(&known.id(), wanted))
            && filters.any("name", |wanted| is_named(known.name(), wanted))
            && filters.any("scope", |wanted| wanted == "local")
            && filters.any("type", |wanted| (wanted == "builtin") == known.is_predefined())
            && filters.labels(&labels(known));
        let is_free = match filters.values("dangling").first() {
            None => true,
            Some(wanted) => {
                let is_dangling = !known.is_predefined() && endpoints(door, known).await.is_empty();
                is_dangling != ["0", "false"].contains(&wanted.as_str())
            }
        };
        if is_chosen && is_free {
            shown.push(shape);
        }
    }
    Ok(Answer::ok(&shown))
}

/// `GET /networks/{name}`.
pub(in crate::docker_api) async fn inspect(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    if request.query.get("scope").is_some_and(|scope| scope == "swarm") {
        return Err(Refused::missing(format!("network {given} not found")));
    }
    let known = match Known::find(door, given).await? {
        // Clients look for its gateway here, before any container has used it.
        Known::Default => Known::Configured(Box::new(door.engine.default_network().await?)),
        known => known,
    };
    let endpoints = endpoints(door, &known).await;
    Ok(Answer::ok(&shape(&known, &endpoints)))
}

/// The containers that run on a network.
pub(super) async fn endpoints(door: &Door, known: &Known) -> Vec<Endpoint> {
    let Known::Configured(network) = known else {
        return Vec::new();
    };
    let sandboxes = door.engine.sandboxes().await;
    let each = sandboxes.into_iter().filter_map(|sandbox| {
        if sandbox.network.as_deref() != Some(network.name.as_str()) {
            return None;
        }
        // One of the pool has the container that is in it now, which its record names.
        let of_pool = || {
            let mut all = door.server.containers().into_iter();
            all.find(|served| served.look().sandbox() == Some(sandbox.id.as_str()))
        };
        let served = match &sandbox.container {
            Some(container) => door.server.find(container).ok(),
            None => of_pool(),
        }?;
        let address = sandbox.addresses.first();
        Some(Endpoint {
            container: served.id().to_string(),
            name: served.name().unwrap_or_else(|| served.id().to_string()),
            id: endpoint_id(&sandbox.id),
            address: address.map_or_else(String::new, |at| format!("{}/{}", at.ip, at.prefix)),
        })
    });
    each.collect()
}

/// An id for the place of a sandbox on its network.
pub(in crate::docker_api) fn endpoint_id(sandbox: &str) -> String {
    let parts = (0..4_u8).map(|part| {
        let whole = [&[part], sandbox.as_bytes()].concat();
        format!("{:016x}", crate::ids::stable_hash(&whole))
    });
    parts.collect()
}
