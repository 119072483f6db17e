//! The networks that fnctr configures itself: a bridge, addresses from a separate subnet, masquerading, published
//! ports.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::cni::List;
use super::configured::{LONGEST, MARK, is_interface, is_ours};
use super::forward::Passage;
use super::known::{ABOUT, ConfiguredNetwork, DEFAULT, NetworkAbout};
use super::netlink;
use super::settings::CONFIG_DIR;
use super::{Error, NetworkSettings};

/// The range of subnets for new networks, one /16 after the other: a part of 10.0.0.0/8 that none of Docker (172.17 to
/// 172.31, 192.168), podman (10.88), k3s (10.42, 10.43) and nerdctl (10.4) uses.
const FIRST: u8 = 143;
const LAST: u8 = 174;
/// The shortest prefix of a network.
const WIDEST: u8 = 8;
/// An address of the Internet (a root name server), for which the kernel is asked the route. Nothing is ever sent to
/// it.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 41, 0, 4);
/// The default MTU of a bridge, and the length that any IPv4 host accepts (RFC 791).
const USUAL_MTU: u32 = 1500;
const SHORTEST_MTU: u32 = 576;

/// A network that does not exist yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NewNetwork {
    pub(crate) name: String,
    /// The subnet; `None` selects a free one.
    pub(crate) subnet: Option<String>,
    /// The address of the host in it; `None` is the first one.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// A part of the subnet that addresses are given from, written like a subnet; `None` is all of it.
    pub(crate) range: Option<String>,
    /// The bridge's name; `None` derives it from the network's name.
    pub(crate) bridge: Option<String>,
    /// What is told of it.
    pub(crate) about: NetworkAbout,
}

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subnet {
    at: u32,
    prefix: u32,
}

impl Subnet {
    /// A network with room for hosts.
    fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_up_to(text, 30)
    }

    /// A part of one, which may be a single address.
    fn parse_range(text: &str) -> Result<Self, Error> {
        Self::parse_up_to(text, 32)
    }

    fn parse_up_to(text: &str, longest: u32) -> Result<Self, Error> {
        let refuse = |why| Error::Subnet {
            subnet: text.chars().take(60).collect(),
            why,
        };
        let form = "it must be an IPv4 address and a prefix, as in 10.20.0.0/16";
        let (ip, prefix) = text.split_once('/').ok_or_else(|| refuse(form))?;
        let ip: Ipv4Addr = ip.parse().map_err(|_| refuse(form))?;
        let prefix: u32 = prefix.parse().map_err(|_| refuse(form))?;
        if !(u32::from(WIDEST)..=longest).contains(&prefix) {
            return Err(refuse("its prefix must be from 8 to 30, or 32 for a range"));
        }
        let subnet = Self {
            at: ip.to_bits(),
            prefix,
        };
        if subnet.at & !subnet.mask() != 0 {
            return Err(refuse("it has bits beyond its prefix"));
        }
        Ok(subnet)
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0)
    }

    /// Whether a host of it may have this address: neither its own nor that for all.
    fn contains(self, ip: Ipv4Addr) -> bool {
        let host = ip.to_bits() & !self.mask();
        ip.to_bits() & self.mask() == self.at && host != 0 && host != !self.mask()
    }

    fn overlaps(self, other: Self) -> bool {
        let mask = self.mask() & other.mask();
        self.at & mask == other.at & mask
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.at), self.prefix)
    }
}

/// Writes the configuration of a new network. `known` are the existing networks.
pub(super) fn create(
    settings: &NetworkSettings,
    new: &NewNetwork,
    known: &[ConfiguredNetwork],
) -> Result<(), Error> {
    if let Some(name) = new.bridge.as_deref().filter(|name| !is_interface(name)) {
        return Err(Error::Bridge {
            name: name.chars().take(60).collect(),
        });
    }
    if let Some(name) = &new.bridge {
        let has = |known: &ConfiguredNetwork| {
            let mut plugins = known.config["plugins"].as_array().into_iter().flatten();
            plugins.any(|plugin| plugin["bridge"] == json!(name))
        };
        // The removal of the network would remove another's interface.
        if known.iter().any(has) || Path::new("/sys/class/net").join(name).exists() {
            return Err(Error::BridgeTaken { name: name.clone() });
        }
    }
    let routes = netlink::routes().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read the kernel's routes; a new network may take a subnet that is in use");
        Vec::new()
    });
    let mut taken = routed(&routes);
    let configured = known.iter().flat_map(|known| &known.subnets);
    taken.extend(configured.filter_map(|subnet| Subnet::parse(subnet).ok()));
    let subnet = match &new.subnet {
        Some(text) => {
            let subnet = Subnet::parse(text)?;
            if taken.iter().any(|other| subnet.overlaps(*other)) {
                return Err(Error::Overlap { subnet: text.clone() });
            }
            subnet
        }
        None => free(&taken)?,
    };
    if let Some(gateway) = new.gateway.filter(|gateway| !subnet.contains(*gateway)) {
        return Err(Error::Gateway {
            gateway,
            subnet: subnet.to_string(),
        });
    }
    let range = new.range.as_deref().map(Subnet::parse_range).transpose()?;
    if let Some(range) = range
        && (range.prefix < subnet.prefix || !subnet.overlaps(range))
    {
        return Err(Error::Subnet {
            subnet: range.to_string(),
            why: "it is not a part of the network's subnet",
        });
    }
    let addresses = Addresses {
        subnet,
        range,
        gateway: new.gateway,
    };
    let dir = settings.config_dirs.first().ok_or_else(|| Error::Config {
        file: new.name.clone().into(),
        why: "no directory for network configurations is set".to_owned(),
    })?;
    let bridge = match &new.bridge {
        Some(name) => name.clone(),
        None => bridge_name(dir, &new.name),
    };
    let file = dir.join(format!("{}.conflist", new.name));
    let text = serde_json::to_string_pretty(&config(new, &bridge, addresses, &settings.address_dir));
    let written = text
        .map_err(io::Error::from)
        .and_then(|text| write_new(dir, &file, &text));
    written.map_err(|why| match why.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists {
            name: new.name.clone(),
            file: file.clone(),
        },
        _ => Error::Config {
            file: file.clone(),
            why: format!("it cannot be written: {why}"),
        },
    })
}

/// Writes a file as a whole or not at all, and never replaces an existing one.
fn write_new(dir: &Path, file: &Path, text: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = COUNT.fetch_add(1, Ordering::Relaxed);
    let new = dir.join(format!(".{}-{unique}.new", std::process::id()));
    // A killed process with the same process ID may have left this file behind.
    drop(fs::remove_file(&new));
    let mut written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&new)?;
    written.write_all(text.as_bytes())?;
    written.write_all(b"\n")?;
    written.sync_all()?;
    let linked = fs::hard_link(&new, file);
    fs::remove_file(&new)?;
    linked
}

/// The addresses of a new network.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    subnet: Subnet,
    range: Option<Subnet>,
    gateway: Option<Ipv4Addr>,
}

impl Addresses {
    /// The range as the plugin host-local reads it.
    fn range(self) -> Value {
        let mut range = json!({ "subnet": self.subnet.to_string() });
        if let Some(part) = self.range {
            // The first address of the subnet is its own, and the last one is for all.
            let (first, last) = (part.at, part.at | !part.mask());
            range["rangeStart"] = json!(Ipv4Addr::from_bits(first.max(self.subnet.at + 1)));
            range["rangeEnd"] = json!(Ipv4Addr::from_bits(
                last.min((self.subnet.at | !self.subnet.mask()) - 1)
            ));
        }
        if let Some(gateway) = self.gateway {
            range["gateway"] = json!(gateway);
        }
        range
    }
}

fn config(new: &NewNetwork, bridge: &str, addresses: Addresses, dir: &Path) -> Value {
    let is_internal = new.about.is_internal;
    let mut plugins = vec![json!({
        "type": "bridge",
        "bridge": bridge,
        "isGateway": true,
        "ipMasq": !is_internal,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "dataDir": dir,
            "ranges": [[addresses.range()]],
            // Without a route, a container reaches its own network alone.
            "routes": if is_internal { json!([]) } else { json!([{ "dst": "0.0.0.0/0" }]) },
        },
    })];
    if !is_internal {
        // For hosts whose firewall drops packets by default, as beside dockerd.
        plugins.push(json!({ "type": "firewall" }));
        plugins.push(json!({ "type": "portmap", "capabilities": { "portMappings": true } }));
    }
    let mut config = json!({
        "cniVersion": "1.0.0",
        "name": new.name,
        // Marks the network as one that fnctr may remove.
        MARK: env!("CARGO_PKG_VERSION"),
        "plugins": plugins,
    });
    if new.about != NetworkAbout::default() {
        config[ABOUT] = json!(new.about);
    }
    config
}

/// Returns the bridge's name: `fnctr0` for the default network; for other networks a name that contains the network's,
/// or a hash if that does not fit an interface. Outside of the usual directory the name is always a hash: bridges are
/// shared by the whole host, and another directory may have a network of the same name.
fn bridge_name(dir: &Path, network: &str) -> String {
    if dir != Path::new(CONFIG_DIR) {
        let dir = dir.canonicalize().or_else(|_| std::path::absolute(dir));
        let dir = dir.unwrap_or_default();
        let whole = [dir.as_os_str().as_encoded_bytes(), network.as_bytes()].join(&0);
        return hashed(&whole);
    }
    if network == DEFAULT {
        return "fnctr0".to_owned();
    }
    let plain: String = network
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name = format!("fn-{plain}");
    if name.len() <= LONGEST && plain == network {
        return name;
    }
    hashed(network.as_bytes())
}

fn hashed(name: &[u8]) -> String {
    format!("fn-{:012x}", crate::ids::stable_hash(name) >> 16)
}

/// Returns the subnets that any routing table of the kernel has routes to: a VPN may have a table of its own. A route
/// to more than a /8 is ignored, because it is a part of a default route (0.0.0.0/1 and 128.0.0.0/1 of OpenVPN, which
/// take precedence over the usual one).
fn routed(routes: &[(Ipv4Addr, u8)]) -> Vec<Subnet> {
    let networks = routes.iter().filter(|(_, prefix)| *prefix >= WIDEST);
    let networks = networks.map(|(at, prefix)| Subnet {
        at: at.to_bits(),
        prefix: u32::from(*prefix),
    });
    networks.collect()
}

fn free(taken: &[Subnet]) -> Result<Subnet, Error> {
    let candidates = (FIRST..=LAST).map(|second| Subnet {
        at: Ipv4Addr::new(10, second, 0, 0).to_bits(),
        prefix: 16,
    });
    let is_free = |subnet: &Subnet| !taken.iter().any(|other| subnet.overlaps(*other));
    let mut candidates = candidates.filter(is_free);
    candidates.next().ok_or_else(|| Error::NoSubnet {
        tried: format!("10.{FIRST}.0.0/16 to 10.{LAST}.0.0/16"),
    })
}

/// Returns the configuration for an attachment now. Packets that are too long for the way out of the host would be lost
/// unnoticed where a filter drops the ICMP message about them. So a network that fnctr configured without an MTU gets
/// the one of the way out, if that is shorter than Ethernet's: as behind a VPN or in an overlay.
pub(super) fn fitted(list: &List) -> List {
    let fits = || {
        is_ours(list).then_some(())?;
        let mtu = netlink::mtu_to(OUTSIDE).unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot read the maximum length of packets on the way out of the host");
            None
        });
        with_mtu(list, mtu?)
    };
    fits().unwrap_or_else(|| list.clone())
}

fn with_mtu(list: &List, mtu: u32) -> Option<List> {
    if !(SHORTEST_MTU..USUAL_MTU).contains(&mtu) {
        return None;
    }
    let mut json = list.json.clone();
    let plugins = json.get_mut("plugins")?.as_array_mut()?;
    let is_bridge = |plugin: &&mut Value| plugin.get("type").and_then(Value::as_str) == Some("bridge");
    let bridge = plugins.iter_mut().find(is_bridge)?.as_object_mut()?;
    if bridge.contains_key("mtu") {
        return None;
    }
    bridge.insert("mtu".to_owned(), mtu.into());
    List::parse(json).ok()
}

/// Removes the bridge and the address files, which plugins leave behind after the last sandbox, and then the
/// configuration. If any interface is still attached to the bridge, fails and removes nothing.
pub(super) fn remove(settings: &NetworkSettings, file: &Path, list: &List) -> Result<(), Error> {
    let failed = |why: io::Error| Error::Config {
        file: file.to_owned(),
        why: format!("it cannot be removed: {why}"),
    };
    for plugin in &list.plugins {
        if let ("bridge", Some(Value::String(bridge))) = (List::kind(plugin), plugin.get("bridge")) {
            let interface = Path::new("/sys/class/net").join(bridge);
            if !interface.join("bridge").exists() {
                // None, or an interface of another kind, which is not ours.
                continue;
            }
            let ports = fs::read_dir(interface.join("brif"));
            let ports = ports.into_iter().flatten().flatten();
            let ports: Vec<_> = ports
                .map(|port| port.file_name().to_string_lossy().into_owned())
                .collect();
            if !ports.is_empty() {
                return Err(Error::InUse {
                    name: list.name.clone(),
                    by: format!("the interfaces on its bridge {bridge}: {}", ports.join(", ")),
                });
            }
            netlink::remove_link(bridge).map_err(failed)?;
        }
    }
    if let Some(passage) = Passage::of(list) {
        passage.close().map_err(|source| Error::Forward {
            network: list.name.clone(),
            source,
        })?;
    }
    match fs::remove_dir_all(settings.address_dir.join(&list.name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::remove_file(file).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_a_network_and_nothing_else() {
        assert_eq!(Subnet::parse("10.20.0.0/16").unwrap().to_string(), "10.20.0.0/16");
        for bad in [
            "",
            "10.20.0.0",
            "10.20.0.1/16",
            "fd00::/64",
            "10.0.0.0/31",
            "10.0.0.0/0",
            "10.20.0.0/x",
        ] {
            assert!(matches!(Subnet::parse(bad), Err(Error::Subnet { .. })), "{bad}");
        }
        let subnet = |text: &str| Subnet::parse(text).unwrap();
        assert!(subnet("10.20.0.0/16").overlaps(subnet("10.20.3.0/24")));
        assert!(subnet("10.20.3.0/24").overlaps(subnet("10.0.0.0/8")));
        assert!(!subnet("10.20.0.0/16").overlaps(subnet("10.21.0.0/16")));
    }

    #[test]
    fn what_the_host_routes_is_not_given_away() {
        let route = |text: &str| {
            let (at, prefix) = text.split_once('/').unwrap();
            (at.parse().unwrap(), prefix.parse().unwrap())
        };
        let taken = routed(&["0.0.0.0/0", "10.143.0.0/16", "192.0.2.0/24", "10.144.7.7/32"].map(route));
        let shown: Vec<_> = taken.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.143.0.0/16", "192.0.2.0/24", "10.144.7.7/32"]);
        assert_eq!(free(&taken).unwrap().to_string(), "10.145.0.0/16");
        let all = Subnet::parse("10.0.0.0/8").unwrap();
        let none = free(&[all]).unwrap_err();
        assert!(
            none.to_string().contains("10.143.0.0/16 to 10.174.0.0/16"),
            "{none}"
        );
    }

    #[test]
    fn a_default_route_in_halves_takes_no_network() {
        let halves = [(Ipv4Addr::new(0, 0, 0, 0), 1), (Ipv4Addr::new(128, 0, 0, 0), 1)];
        assert_eq!(routed(&halves), []);
        assert_eq!(free(&routed(&halves)).unwrap().to_string(), "10.143.0.0/16");
    }

    #[test]
    fn packets_are_as_short_as_the_way_out_needs_unless_the_configuration_says_how_long() {
        let list = |config: Value| List::parse(config).unwrap();
        let subnet = Subnet::parse("10.143.0.0/16").unwrap();
        let new = NewNetwork {
            name: "n".to_owned(),
            ..NewNetwork::default()
        };
        let addresses = Addresses {
            subnet,
            range: None,
            gateway: None,
        };
        let ours = list(config(&new, "br", addresses, Path::new("/a")));
        let mtu = |list: &List| list.plugins[0].get("mtu").cloned();
        let fitted = with_mtu(&ours, 1420).unwrap();
        assert_eq!(mtu(&fitted), Some(json!(1420)));
        assert_eq!(
            fitted.json["plugins"][0]["mtu"],
            json!(1420),
            "the journal has it"
        );
        assert_eq!(fitted.plugins[1..], ours.plugins[1..]);
        // The MTUs of a loopback, of jumbo frames and of Ethernet, and one with which IPv4 cannot work.
        for as_usual in [65536, 9001, 1500, 100] {
            assert_eq!(with_mtu(&ours, as_usual), None);
        }
        let mut said = ours.json.clone();
        said["plugins"][0]["mtu"] = json!(1480);
        assert_eq!(with_mtu(&list(said), 1420), None);
    }

    #[test]
    fn a_bridge_of_a_name_that_no_interface_can_have_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let settings = NetworkSettings {
            config_dirs: vec![dir.path().to_owned()],
            ..NetworkSettings::default()
        };
        for bad in ["", "a b", "br/0", "-A", "sixteen-letters-", "a\nb"] {
            let new = NewNetwork {
                name: "n".into(),
                subnet: Some("10.20.0.0/24".into()),
                bridge: Some(bad.into()),
                ..NewNetwork::default()
            };
            let refused = create(&settings, &new, &[]).unwrap_err();
            assert!(
                matches!(&refused, Error::Bridge { name } if name == bad),
                "{refused}"
            );
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_bridge_has_a_name_that_the_kernel_takes_and_no_two_share() {
        let usual = |network| bridge_name(Path::new(CONFIG_DIR), network);
        assert_eq!(usual("fnctr"), "fnctr0");
        assert_eq!(usual("blue"), "fn-blue");
        let long = ["a.b", "a-b", "a-very-long-name-1", "a-very-long-name-2", "a_b"].map(usual);
        let different: std::collections::BTreeSet<_> = long.iter().collect();
        assert_eq!(different.len(), long.len(), "{long:?}");
        assert!(long.iter().all(|name| name.len() <= LONGEST));
    }

    #[test]
    fn networks_of_the_same_name_in_two_directories_have_two_bridges() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for network in ["fnctr", "blue"] {
            let names = [one.path(), two.path()].map(|dir| bridge_name(dir, network));
            assert_ne!(names[0], names[1]);
            assert_eq!(names[0], bridge_name(&one.path().join("."), network));
            assert!(names.iter().all(|name| name.len() <= LONGEST), "{names:?}");
        }
    }
}
