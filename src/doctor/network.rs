//! Whether containers can have networks: plugins, the program that they need, firewalls, resolvers, and namespaces that
//! dead processes left behind.

use std::io;
use std::path::{Path, PathBuf};

use super::Check;
use crate::sandbox::{Family, Firewalls, SandboxCounts, files};

/// The plugins of the networks that fnctr configures.
const PLUGINS: [&str; 4] = ["bridge", "host-local", "firewall", "portmap"];

/// Whether the plugins are installed. Functions run without them, except functions that need a network.
pub(super) fn plugins(dirs: &[PathBuf], is_there: impl Fn(&Path) -> bool) -> Check {
    let missing = |name: &&str| !dirs.iter().any(|dir| is_there(&dir.join(name)));
    let missing: Vec<_> = PLUGINS.into_iter().filter(missing).collect();
    let places: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    let places = places.join(" or ");
    if missing.is_empty() {
        return Check::ok(
            "networks",
            format!("the CNI plugins of bridge networks are in {places}"),
        );
    }
    let all = missing.len() == PLUGINS.len();
    let which = if all {
        "none".to_owned()
    } else {
        format!("no {}", missing.join(", no "))
    };
    Check::warn(
        "networks",
        format!(
            "{which} of the CNI plugins of bridge networks in {places}: containers have none or the host's network"
        ),
        "apt-get install -y containernetworking-plugins",
    )
}

/// Whether iptables is installed, which masquerading and published ports need.
pub(super) fn iptables(program: Option<&Path>) -> Check {
    match program {
        Some(path) => Check::ok("iptables", format!("{}", path.display())),
        None => Check::warn(
            "iptables",
            "it is not installed, and the plugins of bridge networks need it",
            "apt-get install -y iptables",
        ),
    }
}

/// Whether packets to a published port of this host reach the container, and packets from a container leave the host.
pub(super) fn firewall(found: io::Result<Option<Firewalls>>) -> Check {
    let Firewalls { drops, shut, others } = match found {
        Ok(Some(found)) => found,
        Ok(None) => return Check::ok("firewall", "iptables is not installed, so it has no rules"),
        Err(error) => {
            return Check::warn(
                "firewall",
                format!("its rules cannot be read: {error}"),
                "run fnctr doctor as root",
            );
        }
    };
    if let Some(other) = others.first() {
        return Check::warn(
            "firewall",
            format!(
                "{} forwards only what its own rules accept, even if iptables accepts more: published ports may not be reachable \
                 from other machines, nor these from containers",
                other.what
            ),
            &other.mend,
        );
    }
    if !shut.is_empty() {
        let what = if drops {
            ", so that nothing is forwarded to them"
        } else {
            ""
        };
        return Check::warn(
            "firewall",
            format!(
                "the rules of networks in use are missing: {}{what}",
                shut.join(", ")
            ),
            "the next container on each makes them again",
        );
    }
    Check::ok(
        "firewall",
        if drops {
            "forwards only what a rule accepts; the rules of fnctr's own networks accept what is published"
        } else {
            "forwards everything"
        },
    )
}

/// Which resolvers containers on bridge networks ask. The networks that fnctr configures have only IPv4 addresses.
pub(super) fn resolvers(host: &str, upstream: &str) -> Check {
    let upstream = Some(upstream).filter(|text| !text.is_empty());
    let servers = files::servers(host, upstream, &[Family::V4]);
    if servers.is_empty() {
        return Check::warn(
            "resolvers",
            "containers on bridge networks can reach none of this host's (only those that are neither on its loopback nor on one \
             link, and have an address of IPv4), and find no names",
            "name one in the network's configuration (\"dns\": { \"nameservers\": [...] } of its bridge plugin), or let this host's \
             listen on more than its loopback",
        );
    }
    let servers = servers.join(", ");
    Check::ok(
        "resolvers",
        format!("containers on bridge networks ask {servers}"),
    )
}

/// Reports the pools of prepared network namespaces, and namespaces that dead processes left behind.
pub(super) fn pools(found: SandboxCounts) -> Check {
    let SandboxCounts { own, pooled, left } = found;
    let counts = format!("{own} network namespaces made for containers, {pooled} in pools");
    if left == 0 {
        return Check::ok("pools", counts);
    }
    Check::warn(
        "pools",
        format!("{counts}, {left} left by processes that have ended"),
        "fnctr ps, or the next start of their host, with the containerd and namespace that they were made for",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_host_without_plugins_can_run_functions_but_not_on_networks() {
        let dirs = [PathBuf::from("/a"), PathBuf::from("/b")];
        assert_eq!(plugins(&dirs, |path| path.starts_with("/b")).status, Status::Ok);
        let none = plugins(&dirs, |_| false);
        assert_eq!(none.status, Status::Warn);
        assert!(
            none.found
                .starts_with("none of the CNI plugins of bridge networks in /a or /b"),
            "{none}"
        );
        let some = plugins(&dirs, |path| !path.ends_with("portmap"));
        assert!(some.found.starts_with("no portmap of"), "{some}");
        assert_eq!(iptables(None).status, Status::Warn);
        assert_eq!(iptables(Some(Path::new("/sbin/iptables"))).status, Status::Ok);
    }

    #[test]
    fn a_firewall_that_drops_packets_is_reported_with_its_remedy() {
        use crate::sandbox::Other;

        let with = |change: fn(&mut Firewalls)| {
            let mut found = Firewalls::default();
            change(&mut found);
            firewall(Ok(Some(found)))
        };
        assert!(with(|_| {}).found.contains("forwards everything"));
        let drops = with(|found| found.drops = true);
        assert_eq!(drops.status, Status::Ok);
        assert!(drops.found.contains("accept what is published"), "{drops}");
        let shut = with(|found| {
            found.drops = true;
            found.shut = vec!["fnctr".into(), "blue".into()];
        });
        assert_eq!(shut.status, Status::Warn);
        assert!(
            shut.found.contains("missing: fnctr, blue, so that nothing"),
            "{shut}"
        );
        let other = with(|found| {
            found.others.push(Other {
                what: "table inet filter of nftables".into(),
                mend: "nft insert".into(),
            });
        });
        assert_eq!(other.status, Status::Warn);
        assert!(
            other
                .found
                .starts_with("table inet filter of nftables forwards only"),
            "{other}"
        );
        assert_eq!(other.mend.as_deref(), Some("nft insert"));
        assert_eq!(firewall(Ok(None)).status, Status::Ok);
        assert_eq!(firewall(Err(io::Error::other("no"))).status, Status::Warn);
    }

    #[test]
    fn the_resolvers_of_containers_are_reported() {
        let reached = resolvers("nameserver 127.0.0.53\n", "nameserver 192.0.2.53\n");
        assert_eq!(reached.found, "containers on bridge networks ask 192.0.2.53");
        for nobody in ["nameserver 127.0.0.11\n", "nameserver 2001:db8::1\n", ""] {
            let none = resolvers(nobody, "");
            assert_eq!(none.status, Status::Warn);
            assert!(none.found.contains("can reach none of this host's"), "{none}");
        }
    }

    #[test]
    fn leftovers_of_a_pool_are_reported() {
        let found = |left| {
            pools(SandboxCounts {
                own: 1,
                pooled: 2,
                left,
            })
        };
        assert_eq!(found(0).status, Status::Ok);
        let left = found(3);
        assert_eq!(left.status, Status::Warn);
        assert!(
            left.found.contains("3 left by processes that have ended"),
            "{left}"
        );
    }
}
