//! Whether containers can have networks: plugins, the program that they need, firewalls and resolvers in between, and what
//! processes that are gone have left.

use std::io;
use std::path::{Path, PathBuf};

use super::Check;
use crate::sandbox::{Family, Firewalls, Standing, files};

/// What the networks that fnctr configures consist of.
const PLUGINS: [&str; 4] = ["bridge", "host-local", "firewall", "portmap"];

/// Which of the plugins are there. Functions run without; those that want a network do not.
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

/// The program behind masquerading and published ports.
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

/// Whether what is sent to a published port of this host gets into the container, and what a container sends gets out.
pub(super) fn firewall(found: io::Result<Option<Firewalls>>) -> Check {
    let Firewalls { drops, shut, others } = match found {
        Ok(Some(found)) => found,
        Ok(None) => return Check::ok("firewall", "none of iptables, which is not installed"),
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
                "{} forwards nothing that its own rules do not accept, whatever those of iptables say: published ports may not be \
                 reachable from other machines, nor these from containers",
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
            format!("the rules of networks in use are gone: {}{what}", shut.join(", ")),
            "the next container on each makes them again",
        );
    }
    Check::ok(
        "firewall",
        if drops {
            "forwards nothing that no rule accepts; those of fnctr's own networks accept what is published"
        } else {
            "forwards everything"
        },
    )
}

/// Whom containers on bridge networks ask for names; those that fnctr configures have addresses of IPv4.
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

/// The pools of prepared network namespaces, and what is left of such.
pub(super) fn pools(found: Standing) -> Check {
    let Standing { own, pooled, left } = found;
    let counts = format!("{own} network namespaces made for containers, {pooled} in pools");
    if left == 0 {
        return Check::ok("pools", counts);
    }
    Check::warn(
        "pools",
        format!("{counts}, {left} left by processes that are gone"),
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
    fn a_firewall_that_lets_nobody_through_is_told_with_what_mends_it() {
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
            shut.found.contains("gone: fnctr, blue, so that nothing"),
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
                .starts_with("table inet filter of nftables forwards nothing"),
            "{other}"
        );
        assert_eq!(other.mend.as_deref(), Some("nft insert"));
        assert_eq!(firewall(Ok(None)).status, Status::Ok);
        assert_eq!(firewall(Err(io::Error::other("no"))).status, Status::Warn);
    }

    #[test]
    fn who_is_asked_for_names_is_told() {
        let reached = resolvers("nameserver 127.0.0.53\n", "nameserver 192.0.2.53\n");
        assert_eq!(reached.found, "containers on bridge networks ask 192.0.2.53");
        for nobody in ["nameserver 127.0.0.11\n", "nameserver 2001:db8::1\n", ""] {
            let none = resolvers(nobody, "");
            assert_eq!(none.status, Status::Warn);
            assert!(none.found.contains("can reach none of this host's"), "{none}");
        }
    }

    #[test]
    fn what_is_left_of_a_pool_is_told() {
        let found = |left| {
            pools(Standing {
                own: 1,
                pooled: 2,
                left,
            })
        };
        assert_eq!(found(0).status, Status::Ok);
        let left = found(3);
        assert_eq!(left.status, Status::Warn);
        assert!(left.found.contains("3 left by processes that are gone"), "{left}");
    }
}
