//! Ports of the host that lead to the container.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::body::PortBinding;
use crate::docker_api::refused::Refused;
use crate::{PortMapping, Protocol};

fn bad(text: &str) -> Refused {
    Refused::bad(format!("invalid port specification: \"{text}\""))
}

/// A port of a container, as in `80/tcp`.
fn declared(port: &str) -> Result<(u16, Protocol), Refused> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let number: u16 = match number.parse() {
        Ok(0) | Err(_) => return Err(bad(number)),
        Ok(number) => number,
    };
    match protocol {
        "tcp" => Ok((number, Protocol::Tcp)),
        "udp" => Ok((number, Protocol::Udp)),
        _ => Err(bad(port)),
    }
}

/// All of these ports once, in the form `80/tcp`.
pub(super) fn declared_by_all<'a>(ports: impl Iterator<Item = &'a String>) -> Vec<String> {
    let whole = ports.map(|port| match port.contains('/') {
        true => port.clone(),
        false => format!("{port}/tcp"),
    });
    whole.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Publishes the ports that are declared and not published yet; the host chooses its own at each start.
pub(super) fn publish_all(ports: &mut Vec<PortMapping>, exposed: &[String]) -> Result<(), Refused> {
    for port in exposed {
        let (number, protocol) = declared(port).map_err(|_| {
            Refused::bad(format!(
                "HostConfig.PublishAllPorts: the declared port {port} cannot be published by fnctr; only tcp and udp can"
            ))
        })?;
        let is_published = |port: &PortMapping| port.container_port == number && port.protocol == protocol;
        if !ports.iter().any(is_published) {
            ports.push(PortMapping {
                host_ip: None,
                host_port: 0,
                container_port: number,
                protocol,
            });
        }
    }
    Ok(())
}

/// The ports that a create publishes. Names are as in `80/tcp`.
pub(super) fn of(bindings: &BTreeMap<String, Vec<PortBinding>>) -> Result<Vec<PortMapping>, Refused> {
    let mut ports = Vec::new();
    for (port, on) in bindings {
        let (number, protocol) = declared(port)?;
        for PortBinding { host_ip, host_port } in on {
            // Without a port of the host, one is chosen at each start.
            let host_port = match host_port.as_str() {
                "" => 0,
                given => given.parse().map_err(|_| bad(given))?,
            };
            let ip = match host_ip.as_str() {
                "" | "0.0.0.0" | "::" => None,
                ip => Some(ip.parse::<IpAddr>().map_err(|_| {
                    Refused::bad(format!(
                        "HostConfig.PortBindings[{port}]: HostIp {ip:?} is not an address"
                    ))
                })?),
            };
            ports.push(PortMapping {
                host_ip: ip,
                host_port,
                container_port: number,
                protocol,
            });
        }
    }
    Ok(ports)
}
