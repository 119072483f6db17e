//! What a client sees of a network. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::known::Known;
use crate::docker_api::time::stamp;

/// A container on a network.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) container: String,
    pub(super) name: String,
    pub(super) id: String,
    /// With the prefix, as in `10.0.0.2/16`.
    pub(super) address: String,
}

/// A network in Docker's form.
pub(super) fn shape(known: &Known, endpoints: &[Endpoint]) -> Value {
    let containers: Map<String, Value> = endpoints
        .iter()
        .map(|endpoint| {
            let shown = json!({
                "Name": endpoint.name, "EndpointID": endpoint.id, "MacAddress": "", "IPv4Address": endpoint.address,
                "IPv6Address": "",
            });
            (endpoint.container.clone(), shown)
        })
        .collect();
    let mut about = match known {
        Known::Configured(network) => network.about.clone(),
        _ => Default::default(),
    };
    if let Known::Configured(network) = known
        && known.is_predefined()
    {
        let bridge = network.config.pointer("/plugins/0/bridge");
        about.options.extend(of_default(bridge.and_then(Value::as_str)));
    }
    let (driver, addresses) = match known {
        Known::Configured(network) => {
            let subnets = network.subnets.iter().map(|subnet| {
                let mut shown = json!({ "Subnet": subnet });
                if let Some(range) = &network.about.range {
                    shown["IPRange"] = json!(range);
                }
                if let Some(gateway) = network.gateway() {
                    shown["Gateway"] = json!(gateway);
                }
                shown
            });
            let kind = network.plugins.first().map_or("bridge", String::as_str);
            (kind, Value::Array(subnets.collect()))
        }
        Known::Default => ("bridge", json!([])),
        Known::Host => ("host", Value::Null),
        Known::None => ("null", Value::Null),
    };
    json!({
        "Name": known.name(), "Id": known.id(), "Created": stamp(about.created_at), "Scope": "local", "Driver": driver,
        "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": addresses },
        "Internal": about.is_internal, "Attachable": false, "Ingress": false, "ConfigFrom": { "Network": "" },
        "ConfigOnly": false, "Containers": containers, "Options": about.options, "Labels": about.labels,
    })
}

/// The options that Docker shows of its default network.
fn of_default(bridge: Option<&str>) -> BTreeMap<String, String> {
    const PREFIX: &str = "com.docker.network";
    let options = [
        ("bridge.default_bridge", "true"),
        ("bridge.enable_icc", "true"),
        ("bridge.enable_ip_masquerade", "true"),
        ("bridge.host_binding_ipv4", "0.0.0.0"),
        ("bridge.name", bridge.unwrap_or_default()),
        ("driver.mtu", "1500"),
    ];
    options
        .into_iter()
        .map(|(name, value)| (format!("{PREFIX}.{name}"), value.to_owned()))
        .collect()
}

/// The labels of a network.
pub(super) fn labels(known: &Known) -> BTreeMap<String, String> {
    match known {
        Known::Configured(network) => network.about.labels.clone(),
        _ => BTreeMap::new(),
    }
}
