//! `/etc/hosts` and `/etc/resolv.conf` of a container: what is right for the network that it has. Pure.
//!
//! A resolver on the host's loopback is the host's alone: in a namespace of its own a container finds nobody there. What is
//! never done is to invent a public one.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::cni::{Address, Dns};

/// Where systemd-resolved writes the servers that it asks itself, behind its stub (systemd-resolved.service(8)).
pub(crate) const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    ff00::0\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// `/etc/hosts` for a network namespace of its own.
pub(crate) fn hosts(hostname: Option<&str>, addresses: &[Address]) -> String {
    let mut text = LOCALHOST.to_owned();
    let Some(hostname) = hostname else { return text };
    for address in addresses {
        let _ = writeln!(text, "{}\t{hostname}", address.ip);
    }
    if addresses.is_empty() {
        // So that a program that looks itself up finds something (hosts(5), as Debian does it).
        let _ = writeln!(text, "127.0.1.1\t{hostname}");
    }
    text
}

/// Lines of `/etc/hosts` that a caller adds.
pub(crate) fn more_hosts(hosts: &[(String, IpAddr)]) -> String {
    hosts.iter().fold(String::new(), |mut text, (name, address)| {
        let _ = writeln!(text, "{address}\t{name}");
        text
    })
}

/// `/etc/resolv.conf` for a network namespace of its own that can reach others. `host` is the host's file, `upstream` what is
/// behind its stub. What the network says of names comes first.
pub(crate) fn resolv_conf(host: &str, upstream: Option<&str>, network: &Dns) -> String {
    let host = Resolver::parse(host);
    let behind = upstream.map(Resolver::parse).filter(|_| host.is_stub());
    let mut resolver = behind.unwrap_or(host);
    resolver.servers.retain(|server| !is_loopback(server));
    if !network.nameservers.is_empty() {
        resolver.servers.clone_from(&network.nameservers);
    }
    let domain = Some(network.domain.clone()).filter(|domain| !domain.is_empty());
    if !network.search.is_empty() || domain.is_some() {
        resolver.search = network.search.iter().cloned().chain(domain).collect();
    }
    if !network.options.is_empty() {
        resolver.options.clone_from(&network.options);
    }
    resolver.write()
}

/// The same for one that can reach nobody: a question fails at once, and not after half a minute.
pub(crate) fn no_resolver() -> String {
    "# This container has no network.\n".to_owned()
}

/// What a resolv.conf says (resolv.conf(5)).
#[derive(Debug, Default, PartialEq)]
struct Resolver {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => resolver.servers.extend(words.next()),
                // The last one counts.
                Some("search" | "domain") => resolver.search = words.collect(),
                Some("options") => resolver.options.extend(words),
                _ => {}
            }
        }
        resolver
    }

    /// Whether all servers are on the loopback, as systemd-resolved's stub is.
    fn is_stub(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(|server| is_loopback(server))
    }

    fn write(&self) -> String {
        let mut text = String::new();
        if self.servers.is_empty() {
            text.push_str("# The host's resolvers are on its loopback, which this container cannot reach.\n");
        }
        for server in &self.servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        for (word, values) in [("search", &self.search), ("options", &self.options)] {
            if !values.is_empty() {
                let _ = writeln!(text, "{word} {}", values.join(" "));
            }
        }
        text
    }
}

fn is_loopback(server: &str) -> bool {
    // A scope may follow an address.
    let address = server.split('%').next().unwrap_or_default();
    address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(servers: &[&str], search: &[&str], domain: &str) -> Dns {
        Dns {
            nameservers: servers.iter().map(ToString::to_string).collect(),
            search: search.iter().map(ToString::to_string).collect(),
            domain: domain.into(),
            options: vec![],
        }
    }

    #[test]
    fn a_container_finds_itself() {
        let address = |ip: &str| Address {
            ip: ip.parse().unwrap(),
            prefix: 24,
        };
        let with = hosts(Some("c1"), &[address("10.0.0.2"), address("fd00::2")]);
        assert!(with.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost"), "{with}");
        assert!(with.ends_with("10.0.0.2\tc1\nfd00::2\tc1\n"), "{with}");
        assert!(hosts(Some("c1"), &[]).ends_with("127.0.1.1\tc1\n"));
        assert_eq!(hosts(None, &[]), LOCALHOST);
    }

    #[test]
    fn the_servers_behind_a_stub_are_asked() {
        let stub = "# by hand\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n";
        let upstream = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch lan\n";
        assert_eq!(
            resolv_conf(stub, Some(upstream), &Dns::default()),
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch lan\n"
        );
    }

    #[test]
    fn loopback_resolvers_are_left_out_and_none_is_invented() {
        let mixed = "nameserver ::1\nnameserver 192.0.2.1\nnameserver 127.0.0.1\n";
        assert_eq!(
            resolv_conf(mixed, Some("nameserver 192.0.2.9"), &Dns::default()),
            "nameserver 192.0.2.1\n"
        );
        for only in [
            "nameserver 127.0.0.1\nsearch lan\n",
            "search lan\n",
            "nameserver ::1%lo\nsearch lan\n",
        ] {
            let text = resolv_conf(only, None, &Dns::default());
            assert!(
                !text.contains("nameserver") && text.ends_with("search lan\n"),
                "{text}"
            );
        }
        assert!(!no_resolver().contains("nameserver"));
    }

    #[test]
    fn what_the_network_says_comes_first() {
        let host = "nameserver 192.0.2.1\nsearch lan\noptions ndots:2\n";
        assert_eq!(
            resolv_conf(host, None, &dns(&["10.0.0.1"], &["a.b"], "b")),
            "nameserver 10.0.0.1\nsearch a.b b\noptions ndots:2\n"
        );
        assert_eq!(
            resolv_conf(host, None, &dns(&[], &[], "")),
            "nameserver 192.0.2.1\nsearch lan\noptions ndots:2\n"
        );
    }
}
