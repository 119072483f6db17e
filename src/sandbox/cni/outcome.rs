//! The result of ADD, in which plugins report what they made, in the format of CNI 0.3 to 1.1.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    pub(crate) prefix: u8,
}

/// What an attachment consists of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// The addresses of the interface in the namespace, without those of the host's interfaces.
    pub(crate) addresses: Vec<Address>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) dns: Dns,
    /// The interfaces that were made on the host: the bridge, one end of a veth pair.
    pub(crate) on_host: Vec<String>,
}

/// The DNS settings of the network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Dns {
    pub(crate) nameservers: Vec<String>,
    pub(crate) domain: String,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

#[derive(Deserialize)]
struct Result_ {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
    gateway: Option<IpAddr>,
    interface: Option<usize>,
}

impl Outcome {
    /// Reads a result.
    pub(in crate::sandbox) fn parse(result: &Value) -> Result<Self, String> {
        let said = Result_::deserialize(result).map_err(|error| error.to_string())?;
        let inside = |ip: &&Ip| match ip.interface.and_then(|at| said.interfaces.get(at)) {
            Some(interface) => !interface.sandbox.is_empty(),
            None => true,
        };
        let mut outcome = Self {
            dns: said.dns,
            on_host: said
                .interfaces
                .iter()
                .filter(|on| on.sandbox.is_empty())
                .map(|on| on.name.clone())
                .collect(),
            ..Self::default()
        };
        for ip in said.ips.iter().filter(inside) {
            outcome.addresses.push(address(&ip.address)?);
            outcome.gateway = outcome.gateway.or(ip.gateway);
        }
        Ok(outcome)
    }
}

fn address(text: &str) -> Result<Address, String> {
    let bad = || format!("{text:?} is not an address with a prefix");
    let (ip, prefix) = text.split_once('/').ok_or_else(bad)?;
    let ip: IpAddr = ip.parse().map_err(|_| bad())?;
    let prefix: u8 = prefix.parse().map_err(|_| bad())?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    if prefix > most {
        return Err(bad());
    }
    Ok(Address { ip, prefix })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_addresses_inside_count() {
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": "br0" }, { "name": "eth0", "sandbox": "/run/netns/a" }],
            "ips": [
                { "address": "10.0.0.1/24", "interface": 0 },
                { "address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 1 },
                { "version": "6", "address": "fd00::2/64" },
            ],
            "routes": [{ "dst": "0.0.0.0/0" }],
            "dns": { "nameservers": ["10.0.0.1"] },
        });
        let outcome = Outcome::parse(&result).unwrap();
        let ips: Vec<_> = outcome.addresses.iter().map(|at| at.ip.to_string()).collect();
        assert_eq!(ips, ["10.0.0.2", "fd00::2"]);
        assert_eq!(outcome.gateway, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(outcome.dns.nameservers, ["10.0.0.1"]);
        assert_eq!(outcome.on_host, ["br0"]);
    }

    #[test]
    fn a_plugin_that_gives_no_address_is_fine_and_one_that_gives_nonsense_is_not() {
        assert_eq!(Outcome::parse(&json!({})).unwrap(), Outcome::default());
        for bad in ["", "10.0.0.2", "10.0.0.2/33", "x/8", "10.0.0.2/-1"] {
            let result = json!({ "ips": [{ "address": bad }] });
            assert!(
                Outcome::parse(&result).unwrap_err().contains("not an address"),
                "{bad}"
            );
        }
    }
}
