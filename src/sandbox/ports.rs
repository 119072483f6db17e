//! Ports of the host that lead to ports of a container.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::family::Family;

/// The transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of the host that leads to a port of the container. As text: `[HOST-IP:]HOST-PORT:CONTAINER-PORT[/tcp|/udp]`.
/// The text of a port that is chosen at the start has 0 in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address; `None` is all of its addresses. The network must have addresses of the same family: a
    /// connection to `::1` is not translated to IPv4 on its way into a container.
    pub host_ip: Option<IpAddr>,
    /// The host's port. With 0, one that is free is chosen each time that the container starts.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// The error for text that is not a [`PortMapping`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} must be [HOST-IP:]HOST-PORT:CONTAINER-PORT[/tcp|/udp], with ports from 1 to 65535; 0 as HOST-PORT chooses one \
     that is free"
)]
pub struct InvalidPortMapping {
    text: String,
}

impl FromStr for PortMapping {
    type Err = InvalidPortMapping;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidPortMapping {
            text: text.chars().take(100).collect(),
        })
    }
}

fn parse(text: &str) -> Option<PortMapping> {
    let (ports, protocol) = match text.rsplit_once('/') {
        None | Some((_, "tcp")) => (text.strip_suffix("/tcp").unwrap_or(text), Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return None,
    };
    let port = |text: &str| text.parse::<u16>().ok();
    let (host, container) = ports.rsplit_once(':')?;
    let (ip, host) = match host.rsplit_once(':') {
        None => (None, host),
        Some((ip, host)) => {
            let ip = ip
                .strip_prefix('[')
                .and_then(|ip| ip.strip_suffix(']'))
                .unwrap_or(ip);
            (Some(ip.parse().ok()?), host)
        }
    };
    Some(PortMapping {
        host_ip: ip,
        host_port: port(host)?,
        container_port: port(container).filter(|port| *port != 0)?,
        protocol,
    })
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(ip) => write!(f, "{ip}:")?,
            None => {}
        }
        let protocol = self.protocol.name();
        write!(f, "{}:{}/{protocol}", self.host_port, self.container_port)
    }
}

impl PortMapping {
    /// Returns the mapping in the form that plugins with the capability `portMappings` take.
    pub(super) fn argument(&self) -> Value {
        let mut argument = json!({
            "hostPort": self.host_port,
            "containerPort": self.container_port,
            "protocol": self.protocol.name(),
        });
        if let (Some(ip), Some(fields)) = (self.host_ip, argument.as_object_mut()) {
            // iptables does not take `::ffff:192.0.2.1`.
            fields.insert("hostIP".to_owned(), ip.to_canonical().to_string().into());
        }
        argument
    }

    /// Parses a mapping in the form that [`Self::argument`] returns.
    pub(super) fn of_argument(argument: &Value) -> Option<Self> {
        let port = |field: &str| u16::try_from(argument.get(field)?.as_u64()?).ok();
        let host_ip = argument.get("hostIP").and_then(Value::as_str);
        Some(Self {
            host_ip: host_ip.and_then(|ip| ip.parse().ok()),
            host_port: port("hostPort")?,
            container_port: port("containerPort")?,
            protocol: match argument.get("protocol")?.as_str()? {
                "udp" => Protocol::Udp,
                _ => Protocol::Tcp,
            },
        })
    }

    /// Whether both mappings need the same port of the host.
    pub(super) fn clashes(&self, other: Self) -> bool {
        let same_ip = match (self.host_ip, other.host_ip) {
            (Some(ours), Some(theirs)) => {
                let both = [ours, theirs].map(|ip| ip.to_canonical());
                let [ours, theirs] = both;
                let all = both.iter().any(IpAddr::is_unspecified);
                ours == theirs || (all && Family::of(ours) == Family::of(theirs))
            }
            _ => true,
        };
        let is_chosen = self.host_port != 0;
        is_chosen && same_ip && self.host_port == other.host_port && self.protocol == other.protocol
    }

    /// The same mapping with a port of the host that no program listens on now, if its port is not chosen yet. The kernel
    /// chooses it, as for outgoing connections (ip(7), `ip_local_port_range`).
    pub(super) fn choose(self, families: &[Family]) -> io::Result<Self> {
        if self.host_port != 0 {
            return Ok(self);
        }
        let ip = self.host_ip.unwrap_or_else(|| match families.first() {
            Some(Family::V6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        });
        let address = match self.protocol {
            Protocol::Tcp => TcpListener::bind((ip, 0))?.local_addr()?,
            Protocol::Udp => UdpSocket::bind((ip, 0))?.local_addr()?,
        };
        let host_port = address.port();
        let chosen = Self { host_port, ..self };
        chosen.is_free(families)?;
        Ok(chosen)
    }

    /// Returns the reason why no connection to the port can reach a container with addresses of these families; `None`
    /// if connections can.
    pub(super) fn unreachable(&self, families: &[Family]) -> Option<String> {
        let ip = self.host_ip?;
        let family = Family::of(ip);
        if !families.contains(&family) {
            let has: Vec<_> = families.iter().map(ToString::to_string).collect();
            let has = has.join(" and ");
            return Some(format!(
                "its host IP is an {family} address, and the network has only {has} addresses"
            ));
        }
        // The kernel can be set to forward 127.0.0.0/8 (route_localnet), but has no such setting for ::1.
        (ip == IpAddr::V6(Ipv6Addr::LOCALHOST)).then(|| {
            "the kernel forwards no connection to ::1; 127.0.0.1 or an address of an interface can be published".to_owned()
        })
    }

    /// Succeeds if no program of the host listens on the port now. A firewall rule would take the port away from such a
    /// program.
    pub(super) fn is_free(&self, families: &[Family]) -> io::Result<()> {
        let all = families.iter().map(|family| match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        });
        match self.host_ip {
            Some(ip) => self.bind(ip),
            None => all.into_iter().try_for_each(|ip| self.bind(ip)),
        }
    }

    fn bind(&self, ip: IpAddr) -> io::Result<()> {
        let address = SocketAddr::new(ip, self.host_port);
        let bound = match self.protocol {
            Protocol::Tcp => TcpListener::bind(address).map(drop),
            Protocol::Udp => UdpSocket::bind(address).map(drop),
        };
        match bound {
            // No program listens on an address family that this kernel does not have.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32) => Ok(()),
            bound => bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_a_mapping_and_back() {
        for text in [
            "80:8080/tcp",
            "0:80/tcp",
            "127.0.0.1:80:8080/udp",
            "[::1]:1:65535/tcp",
        ] {
            let mapping: PortMapping = text.parse().unwrap();
            assert_eq!(mapping.to_string(), text);
            assert_eq!(PortMapping::of_argument(&mapping.argument()), Some(mapping));
        }
        let short: PortMapping = "80:81".parse().unwrap();
        assert_eq!(short.to_string(), "80:81/tcp");
        for bad in [
            "",
            "80",
            "80:0",
            "80:65536",
            "x:80:80",
            "80:80/sctp",
            "80:80/",
            ":80",
            "a.b:1:2",
        ] {
            assert!(bad.parse::<PortMapping>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_same_port_of_the_same_address_clashes() {
        let mapping = |text: &str| text.parse::<PortMapping>().unwrap();
        let all = mapping("80:1");
        assert!(all.clashes(mapping("80:2")));
        assert!(all.clashes(mapping("127.0.0.1:80:2")));
        assert!(!all.clashes(mapping("80:2/udp")));
        assert!(!all.clashes(mapping("81:1")));
        assert!(!mapping("127.0.0.2:80:1").clashes(mapping("127.0.0.1:80:2")));
        // The unspecified address of a family includes all addresses of that family.
        assert!(mapping("0.0.0.0:80:1").clashes(mapping("127.0.0.1:80:2")));
        assert!(mapping("[::1]:80:1").clashes(mapping("[::]:80:2")));
        assert!(!mapping("[::]:80:1").clashes(mapping("127.0.0.1:80:2")));
        assert!(mapping("[::ffff:127.0.0.1]:80:1").clashes(mapping("127.0.0.1:80:2")));
    }

    #[test]
    fn a_port_that_is_not_chosen_clashes_with_none_and_is_chosen_where_nobody_listens() {
        let free: PortMapping = "127.0.0.1:0:80".parse().unwrap();
        assert!(!free.clashes(free));
        let chosen = free.choose(&[Family::V4]).unwrap();
        assert_ne!(chosen.host_port, 0);
        assert_eq!(chosen.choose(&[Family::V4]).unwrap(), chosen);
        assert_eq!(
            PortMapping {
                host_port: 0,
                ..chosen
            },
            free
        );
        let all: PortMapping = "0:80/udp".parse().unwrap();
        assert_ne!(all.choose(&Family::ALL).unwrap().host_port, 0);
    }

    #[test]
    fn a_port_of_an_address_of_the_other_family_is_unreachable() {
        let why =
            |text: &str, families: &[Family]| text.parse::<PortMapping>().unwrap().unreachable(families);
        let (v4, v6) = ([Family::V4], [Family::V6]);
        assert_eq!(
            why("[::1]:18082:80", &v4).as_deref(),
            Some("its host IP is an IPv6 address, and the network has only IPv4 addresses")
        );
        for (text, families) in [
            ("[::]:80:80", &v4[..]),
            ("[2001:db8::1]:80:80/udp", &v4),
            ("127.0.0.1:80:80", &v6),
            ("0.0.0.0:80:80", &v6),
            ("[::ffff:127.0.0.1]:80:80", &v6),
        ] {
            assert!(why(text, families).unwrap().contains("has only IPv"), "{text}");
        }
        for (text, families) in [
            ("80:80", &v4[..]),
            ("80:80", &v6),
            ("127.0.0.1:80:80", &v4),
            ("[::ffff:127.0.0.1]:80:80", &v4),
            ("[2001:db8::1]:80:80", &Family::ALL),
            ("[::]:80:80", &Family::ALL),
        ] {
            assert_eq!(why(text, families), None, "{text}");
        }
        // Otherwise the mapping would be accepted, and no connection would reach the container.
        assert!(why("[::1]:80:80", &Family::ALL).unwrap().contains("::1"));
    }

    #[test]
    fn plugins_and_people_get_a_mapping_in_their_forms() {
        let mapping: PortMapping = "[::ffff:192.0.2.1]:80:8080/udp".parse().unwrap();
        assert_eq!(mapping.argument()["hostIP"], "192.0.2.1");
        let mapping: PortMapping = "192.0.2.1:80:8080/udp".parse().unwrap();
        assert_eq!(
            serde_json::to_value(mapping).unwrap(),
            json!({ "host_ip": "192.0.2.1", "host_port": 80, "container_port": 8080, "protocol": "udp" })
        );
        let mapping: PortMapping = "80:8080".parse().unwrap();
        assert_eq!(
            serde_json::to_value(mapping).unwrap(),
            json!({ "host_ip": null, "host_port": 80, "container_port": 8080, "protocol": "tcp" })
        );
    }

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mapping: PortMapping = format!("127.0.0.1:{port}:80").parse().unwrap();
        mapping.is_free(&[Family::V4]).unwrap_err();
        let all: PortMapping = format!("{port}:80").parse().unwrap();
        all.is_free(&Family::ALL).unwrap_err();
        drop(listener);
        mapping.is_free(&[Family::V4]).unwrap();
        // An address for documentation, which no interface has (RFC 5737).
        let elsewhere: PortMapping = format!("192.0.2.1:{port}:80").parse().unwrap();
        let error = elsewhere.is_free(&[Family::V4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
