//! `GET /containers/{id}/json`.

use std::sync::Arc;

use serde_json::Value;

use super::front::Front;
use super::view::{Address, Seen};
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::networks::{Known, endpoint_id};
use crate::docker_api::refused::Refused;
use crate::engine::{Network, Served};

/// Everything about a container.
pub(in crate::docker_api) async fn inspect(door: &Arc<Door>, given: &str) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let mut seen = seen(&served);
    if is_attached(&seen) {
        seen.address = addresses(door)
            .await
            .remove(seen.container.sandbox().unwrap_or_default());
    }
    let mut inspection = seen.inspection();
    inspection["ExecIDs"] = execs_of(door, &served);
    Ok(Answer::ok(&inspection))
}

/// The ids of the execs that run in it; `null` without one.
fn execs_of(door: &Door, served: &Served) -> Value {
    let running = door.execs.running_in(served.id());
    match running.is_empty() {
        true => Value::Null,
        false => running.into(),
    }
}

/// A container without its address.
pub(super) fn seen(served: &Served) -> Seen {
    Seen {
        container: served.look(),
        plan: served.plan().ok(),
        front: Front::of(served),
        address: None,
        health: served.health(),
    }
}

/// Whether it runs on a network of its own.
pub(super) fn is_attached(seen: &Seen) -> bool {
    let network = seen.plan.as_ref().map(|plan| &plan.network);
    seen.container.pid.is_some() && matches!(network, Some(Network::Attached { .. }))
}

/// The first address of every sandbox, by the sandbox's name.
pub(super) async fn addresses(door: &Door) -> std::collections::BTreeMap<String, Address> {
    let sandboxes = door.engine.sandboxes().await;
    // Without them, the ids are missing, and nothing else.
    let networks = Known::all(door).await.unwrap_or_default();
    let network_id = |name: Option<&str>| {
        let known = networks
            .iter()
            .find(|known| known.configured_name() == name && name.is_some());
        known.map(Known::id).unwrap_or_default()
    };
    let each = sandboxes.into_iter().filter_map(|sandbox| {
        let first = sandbox.addresses.first()?;
        let address = Address {
            ip: first.ip.to_string(),
            bits: first.prefix,
            network_id: network_id(sandbox.network.as_deref()),
            endpoint_id: endpoint_id(&sandbox.id),
            gateway: sandbox
                .gateway
                .map(|gateway| gateway.to_string())
                .unwrap_or_default(),
            ports: sandbox.ports,
        };
        Some((sandbox.id, address))
    });
    each.collect()
}
