//! `POST /networks/create`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;

use super::known::{BRIDGE, Known};
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::json::Object;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{self, Kind, NetworkAbout, NetworkError, NewNetwork};
use crate::{ContainerId, clock};

/// The option that names the bridge's interface.
const INTERFACE: &str = "com.docker.network.bridge.name";
/// Options of Docker's bridge, and the value of each that fnctr has anyway.
const GIVEN: [(&str, &str); 3] = [
    ("com.docker.network.bridge.enable_icc", "true"),
    ("com.docker.network.bridge.enable_ip_masquerade", "true"),
    ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
];

/// Configures a network.
pub(in crate::docker_api) async fn create(door: &Arc<Door>, request: &Request) -> Result<Answer, Refused> {
    let body = request.json()?;
    let new = read(&body)?;
    let (name, subnet) = (new.name.clone(), new.subnet.clone());
    if [BRIDGE, "host", "none", "default"].contains(&name.as_str()) {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            format!("operation is not permitted on predefined {name} network "),
        ));
    }
    let engine = door.engine.clone();
    let made = door
        .finish(async move { Ok(engine.create_network(new).await) })
        .await?;
    let made = made.map_err(|error| refused(error, &name, subnet.as_deref()))?;
    let id = Known::Configured(Box::new(made)).id();
    Ok(Answer::json(
        StatusCode::CREATED,
        &json!({ "Id": id, "Warning": "" }),
    ))
}

/// Reads a body. What fnctr does not serve is refused by name.
fn read(body: &Object) -> Result<NewNetwork, Refused> {
    let name = body.text("Name")?;
    if name.is_empty() {
        return Err(Refused::bad("invalid name: name is empty"));
    }
    match body.text("Driver")?.as_str() {
        "" | "default" | "bridge" => {}
        driver @ ("macvlan" | "ipvlan" | "overlay" | "host" | "null") => {
            return Err(Refused::bad(format!(
                "Driver: fnctr does not serve networks of the driver {driver:?}; there is bridge"
            )));
        }
        driver => {
            return Err(Refused::missing(format!(
                "could not find plugin {driver} in v1 plugin registry: plugin \"{driver}\" not found"
            )));
        }
    }
    for field in ["EnableIPv6", "Ingress", "ConfigOnly"] {
        if body.flag(field)? {
            return Err(Refused::bad(format!(
                "{field} is not served by fnctr; leave it out"
            )));
        }
    }
    if body.flag_if_given("EnableIPv4")? == Some(false) {
        return Err(Refused::bad("EnableIPv4 is always on in fnctr; leave it out"));
    }
    let mut options = body.map("Options")?;
    let bridge = options.get(INTERFACE).cloned().filter(|name| !name.is_empty());
    let odd = options
        .iter()
        .find(|(name, value)| *name != INTERFACE && !GIVEN.contains(&(name.as_str(), value.as_str())));
    if let Some((name, value)) = odd {
        return Err(Refused::bad(format!(
            "Options: {name}={value} is not served by fnctr; leave it out"
        )));
    }
    options.retain(|_, value| !value.is_empty());
    let addresses = Addresses::read(body)?;
    Ok(NewNetwork {
        subnet: addresses.subnet,
        gateway: addresses.gateway,
        range: addresses.range.clone(),
        bridge,
        about: NetworkAbout {
            id: ContainerId::random().to_string(),
            created_at: Some(clock::now()),
            labels: body.map("Labels")?,
            options,
            is_internal: body.flag("Internal")?,
            range: addresses.range,
        },
        name,
    })
}

/// The addresses that a body asks for.
#[derive(Debug, Default)]
struct Addresses {
    subnet: Option<String>,
    gateway: Option<Ipv4Addr>,
    range: Option<String>,
}

impl Addresses {
    fn read(body: &Object) -> Result<Self, Refused> {
        let Some(given) = body.object("IPAM")? else {
            return Ok(Self::default());
        };
        if !["", "default"].contains(&given.text("Driver")?.as_str()) {
            return Err(Refused::bad("IPAM.Driver is not served by fnctr; leave it out"));
        }
        if !given.map("Options")?.is_empty() {
            return Err(Refused::bad("IPAM.Options is not served by fnctr; leave it out"));
        }
        let configs = given.objects("Config")?;
        let config = match configs.as_slice() {
            [] => return Ok(Self::default()),
            [config] => config,
            _ => {
                return Err(Refused::bad(
                    "IPAM.Config: a network of fnctr has one subnet; leave the others out",
                ));
            }
        };
        let invalid = |why: String| Refused::bad(format!("invalid network config:\n{why}"));
        let aux: BTreeMap<_, _> = config.map("AuxiliaryAddresses")?;
        if !aux.is_empty() {
            return Err(Refused::bad(
                "IPAM.Config.AuxiliaryAddresses is not served by fnctr; leave it out",
            ));
        }
        let text = |name: &str| Ok::<_, Refused>(Some(config.text(name)?).filter(|text| !text.is_empty()));
        let (subnet, gateway, range) = (text("Subnet")?, text("Gateway")?, text("IPRange")?);
        for (what, given) in [("subnet", &subnet), ("ip-range", &range)] {
            if let Some(given) = given.as_deref().filter(|given| !is_block(given)) {
                return Err(invalid(format!(
                    "invalid {what} {given}: invalid CIDR block notation"
                )));
            }
        }
        if subnet.is_none() && (gateway.is_some() || range.is_some()) {
            return Err(Refused::bad(
                "invalid network config:\nsubnet is needed for a gateway or an ip-range",
            ));
        }
        let gateway = gateway.map(|given| {
            let parsed = given.parse::<Ipv4Addr>();
            parsed.map_err(|_| invalid(format!("invalid gateway {given}: invalid address")))
        });
        Ok(Self {
            subnet,
            gateway: gateway.transpose()?,
            range,
        })
    }
}

/// Whether a text has the form of a subnet, of whichever family.
fn is_block(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, prefix)| {
        address.parse::<std::net::IpAddr>().is_ok() && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= 128)
    })
}

/// An error of the engine in Docker's words.
fn refused(error: engine::Error, name: &str, subnet: Option<&str>) -> Refused {
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref());
    match cause {
        Some(NetworkError::Exists { .. }) => {
            Refused::conflict(format!("network with name {name} already exists"))
        }
        Some(NetworkError::Overlap { .. }) => Refused::new(
            StatusCode::FORBIDDEN,
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        Some(NetworkError::Gateway { gateway, .. }) => Refused::bad(format!(
            "invalid network config:\ninvalid gateway {gateway}: parent subnet {} doesn't contain this address",
            subnet.unwrap_or_default()
        )),
        Some(why @ (NetworkError::Subnet { .. } | NetworkError::BridgeTaken { .. })) => {
            Refused::bad(format!("invalid network config:\n{why}"))
        }
        _ if matches!(error.kind(), Kind::Unsupported | Kind::Internal) => {
            Refused::failed(crate::chain(&error))
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        read(&Object::of_body(body.as_bytes()).unwrap())
            .unwrap_err()
            .message
    }

    #[test]
    fn a_body_is_a_network_and_what_is_not_served_is_named() {
        let body = r#"{"Name":"n","Driver":"bridge","Internal":true,"Labels":{"a":"b"},"EnableIPv6":false,"Attachable":true,
            "IPAM":{"Driver":"default","Config":[{"Subnet":"10.9.0.0/24","Gateway":"10.9.0.254","IPRange":"10.9.0.128/25"}]},
            "Options":{"com.docker.network.bridge.name":"br9","com.docker.network.bridge.enable_icc":"true"}}"#;
        let new = read(&Object::of_body(body.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            (new.subnet.as_deref(), new.range.as_deref()),
            (Some("10.9.0.0/24"), Some("10.9.0.128/25"))
        );
        assert_eq!(new.gateway, Some(Ipv4Addr::new(10, 9, 0, 254)));
        assert_eq!(new.bridge.as_deref(), Some("br9"));
        assert!(new.about.is_internal && new.about.id.len() == 64);
        for (body, says) in [
            ("{}", "invalid name: name is empty"),
            (r#"{"Name":"n","Driver":"macvlan"}"#, "the driver \"macvlan\""),
            (r#"{"Name":"n","Driver":"x"}"#, "could not find plugin x"),
            (r#"{"Name":"n","EnableIPv6":true}"#, "EnableIPv6 is not served"),
            (
                r#"{"Name":"n","Options":{"com.docker.network.driver.mtu":"9000"}}"#,
                "driver.mtu=9000 is not served",
            ),
            (
                r#"{"Name":"n","IPAM":{"Config":[{"Subnet":"zzz"}]}}"#,
                "invalid network config:\ninvalid subnet zzz: invalid CIDR block notation",
            ),
            (
                r#"{"Name":"n","IPAM":{"Config":[{"Gateway":"10.0.0.1"}]}}"#,
                "subnet is needed",
            ),
        ] {
            let message = refusal(body);
            assert!(message.contains(says), "{body}: {message}");
        }
    }
}
