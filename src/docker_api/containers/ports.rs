//! Ports of the host that lead to the container.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::body::PortBinding;
use crate::PortMapping;
use crate::docker_api::refused::Refused;

/// The ports that a create publishes. Names are as in `80/tcp`.
pub(super) fn of(bindings: &BTreeMap<String, Vec<PortBinding>>) -> Result<Vec<PortMapping>, Refused> {
    let mut ports = Vec::new();
    for (port, on) in bindings {
        let bad = |text: &str| Refused::bad(format!("invalid port specification: \"{text}\""));
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let number: u16 = match number.parse() {
            Ok(0) | Err(_) => return Err(bad(number)),
            Ok(number) => number,
        };
        if !["tcp", "udp"].contains(&protocol) {
            return Err(bad(port));
        }
        for PortBinding { host_ip, host_port } in on {
            if host_port.is_empty() || host_port == "0" {
                return Err(Refused::bad(format!(
                    "HostConfig.PortBindings[{port}]: fnctr does not choose ports; give a HostPort"
                )));
            }
            host_port.parse::<u16>().map_err(|_| bad(host_port))?;
            let ip = match host_ip.as_str() {
                "" | "0.0.0.0" | "::" => None,
                ip => Some(ip.parse::<IpAddr>().map_err(|_| {
                    Refused::bad(format!(
                        "HostConfig.PortBindings[{port}]: HostIp {ip:?} is not an address"
                    ))
                })?),
            };
            let at = match ip {
                None => String::new(),
                Some(IpAddr::V4(ip)) => format!("{ip}:"),
                Some(IpAddr::V6(ip)) => format!("[{ip}]:"),
            };
            let text = format!("{at}{host_port}:{number}/{protocol}");
            ports.push(text.parse().map_err(|_| bad(&text))?);
        }
    }
    Ok(ports)
}
