//! `/etc/hosts` and `/etc/resolv.conf` of a container, as its network requires. Pure functions.
//!
//! A resolver is useful only to the host if it is on the host's loopback, on a single link of the host, or in an
//! address family that the container does not have. libc asks only the first three resolvers, so an unreachable one
//! could hide a reachable one. A public resolver is never added instead.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::Family;
use super::cni::{Address, Dns};

/// Where systemd-resolved lists the servers behind its stub, which it asks itself (systemd-resolved.service(8)).
pub(crate) const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";
/// libc reads no more servers than this (`MAXNS`, resolv.conf(5)).
const MOST: usize = 3;

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    ff00::0\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// `/etc/hosts` for a container with its own network namespace.
pub(crate) fn hosts(hostname: Option<&str>, addresses: &[Address]) -> String {
    let mut text = LOCALHOST.to_owned();
    let Some(hostname) = hostname else { return text };
    for address in addresses {
        let _ = writeln!(text, "{}\t{hostname}", address.ip);
    }
    if addresses.is_empty() {
        // Lets a program look up its own host name (hosts(5), as Debian does it).
        let _ = writeln!(text, "127.0.1.1\t{hostname}");
    }
    text
}

/// Lines for `/etc/hosts` that the caller adds.
pub(crate) fn more_hosts(hosts: &[(String, IpAddr)]) -> String {
    hosts.iter().fold(String::new(), |mut text, (name, address)| {
        let _ = writeln!(text, "{address}\t{name}");
        text
    })
}

/// `/etc/resolv.conf` for a container with its own network namespace and addresses of these families. `host` is the
/// content of the host's file, `upstream` that of the file behind its stub. The DNS settings of the network take
/// precedence.
pub(crate) fn resolv_conf(host: &str, upstream: Option<&str>, network: &Dns, families: &[Family]) -> String {
    let mut resolver = Resolver::of_host(host, upstream, families);
    let mut servers = resolver.asked();
    let domain = Some(network.domain.clone()).filter(|domain| !domain.is_empty());
    if !network.search.is_empty() || domain.is_some() {
        resolver.search = network.search.iter().cloned().chain(domain).collect();
    }
    if !network.options.is_empty() {
        resolver.options.clone_from(&network.options);
    }
    let mut text = String::new();
    if !network.nameservers.is_empty() {
        servers.clone_from(&network.nameservers);
    } else if servers.is_empty() {
        text.push_str("# This container can reach none of the host's resolvers.\n");
    }
    for server in &servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    text.push_str(&resolver.rest());
    text
}

/// Returns the servers that a container asks if its network has no DNS settings; empty if it can reach none of the
/// host's.
pub(crate) fn servers(host: &str, upstream: Option<&str>, families: &[Family]) -> Vec<String> {
    Resolver::of_host(host, upstream, families).asked()
}

/// The servers that the host itself asks, but for those on a single link. Without any, libc asks this machine (resolv.conf(5)).
pub(crate) fn host_servers(host: &str) -> Vec<IpAddr> {
    let servers = Resolver::parse(host).servers;
    if servers.is_empty() {
        return vec![std::net::Ipv4Addr::LOCALHOST.into()];
    }
    let on_no_link = servers.iter().filter(|server| server.zone.is_none());
    on_no_link.map(|server| server.ip).collect()
}

/// `/etc/resolv.conf` for a container without a network: a lookup fails at once, not after half a minute.
pub(crate) fn no_resolver() -> String {
    "# This container has no network.\n".to_owned()
}

/// The parsed content of a resolv.conf (resolv.conf(5)).
#[derive(Debug, Default, Clone, PartialEq)]
struct Resolver {
    servers: Vec<Server>,
    search: Vec<String>,
    sortlist: Vec<String>,
    options: Vec<String>,
}

/// The address of a server. libc ignores text that is not an address.
#[derive(Debug, Clone, PartialEq)]
struct Server {
    ip: IpAddr,
    /// The interface, for an address that is valid only on one link.
    zone: Option<String>,
}

impl Server {
    fn parse(text: &str) -> Option<Self> {
        let (ip, zone) = match text.split_once('%') {
            Some((ip, zone)) => (ip, Some(zone.to_owned())),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().ok()?;
        Some(Self {
            ip: ip.to_canonical(),
            zone,
        })
    }

    /// Whether the server is on the asking machine: 0.0.0.0 is, as ::1 is.
    fn is_loopback(&self) -> bool {
        self.ip.is_loopback() || self.ip.is_unspecified()
    }

    /// Whether the server can be reached from a network namespace with addresses of these families. A server on a
    /// single link of the host cannot, because the container is not on that link.
    fn is_reachable(&self, families: &[Family]) -> bool {
        let is_of_a_link = match self.ip {
            IpAddr::V6(ip) => ip.is_unicast_link_local() || self.zone.is_some(),
            // The resolver of a cloud (169.254.169.253) is reached through the host.
            IpAddr::V4(_) => false,
        };
        !self.is_loopback() && !is_of_a_link && families.contains(&Family::of(self.ip))
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.ip)
    }
}

impl Resolver {
    /// Reads the reachable servers, and the other settings, from the host's files.
    fn of_host(host: &str, upstream: Option<&str>, families: &[Family]) -> Self {
        let host = Self::parse(host);
        let reachable = host.reachable(families);
        match upstream {
            Some(upstream) if reachable.servers.is_empty() && host.has_loopback() => {
                Self::parse(upstream).reachable(families)
            }
            _ => reachable,
        }
    }

    /// Returns the servers that libc asks.
    fn asked(&self) -> Vec<String> {
        self.servers.iter().take(MOST).map(Server::to_string).collect()
    }

    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| Server::parse(&word));
                    resolver.servers.extend(server);
                }
                // The last line counts.
                Some("search") => resolver.search = words.collect(),
                Some("domain") => resolver.search = words.take(1).collect(),
                Some("sortlist") => resolver.sortlist = words.collect(),
                Some("options") => resolver.options.extend(words),
                _ => {}
            }
        }
        resolver
    }

    /// Returns a copy with only the reachable servers.
    fn reachable(&self, families: &[Family]) -> Self {
        let mut resolver = self.clone();
        resolver.servers.retain(|server| server.is_reachable(families));
        resolver
    }

    /// Whether a server is on the loopback, as systemd-resolved's stub is.
    fn has_loopback(&self) -> bool {
        self.servers.iter().any(Server::is_loopback)
    }

    /// Returns all lines but those of the servers.
    fn rest(&self) -> String {
        let mut text = String::new();
        for (word, values) in [
            ("search", &self.search),
            ("sortlist", &self.sortlist),
            ("options", &self.options),
        ] {
            if !values.is_empty() {
                let _ = writeln!(text, "{word} {}", values.join(" "));
            }
        }
        text
    }
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

    /// The file for a container that has only IPv4 addresses.
    fn v4(host: &str, upstream: Option<&str>) -> String {
        resolv_conf(host, upstream, &Dns::default(), &[Family::V4])
    }

    #[test]
    fn the_servers_behind_a_stub_are_asked() {
        let stub = "# by hand\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n";
        let upstream = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch lan\n";
        assert_eq!(
            v4(stub, Some(upstream)),
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch lan\n"
        );
        // A reachable server is beside the stub.
        let beside = "nameserver 127.0.0.53\nnameserver 192.0.2.9\noptions edns0\n";
        assert_eq!(
            v4(beside, Some(upstream)),
            "nameserver 192.0.2.9\noptions edns0\n"
        );
        // Only an unreachable server is beside the stub.
        let beside = "nameserver 127.0.0.53\nnameserver 2001:db8::1\n";
        assert_eq!(
            v4(beside, Some(upstream)),
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch lan\n"
        );
        // There is no stub, so there are no servers behind it.
        let v6_only = "nameserver 2001:db8::1\n";
        assert!(!v4(v6_only, Some(upstream)).contains("192.0.2."));
    }

    #[test]
    fn only_what_the_container_can_reach_is_asked_and_no_more_than_libc_reads() {
        let host = "nameserver 2001:db8::1\nnameserver 2001:db8::2\nnameserver 192.0.2.53\nsearch a.lan b.lan\n\
                    options ndots:2\noptions rotate\nsortlist 192.0.2.0/255.255.255.0\n";
        let rest = "search a.lan b.lan\nsortlist 192.0.2.0/255.255.255.0\noptions ndots:2 rotate\n";
        assert_eq!(v4(host, None), format!("nameserver 192.0.2.53\n{rest}"));
        let with = |families: &[Family]| resolv_conf(host, None, &Dns::default(), families);
        assert_eq!(
            with(&[Family::V6]),
            format!("nameserver 2001:db8::1\nnameserver 2001:db8::2\n{rest}")
        );
        assert_eq!(
            with(&Family::ALL),
            format!("nameserver 2001:db8::1\nnameserver 2001:db8::2\nnameserver 192.0.2.53\n{rest}")
        );
        let many = "nameserver nonsense\nnameserver\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.2\n\
                    nameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        assert_eq!(
            v4(many, None),
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
        );
    }

    #[test]
    fn a_server_of_one_link_is_the_hosts_alone() {
        let host = "nameserver fe80::1%eth0\nnameserver fe80::2\nnameserver 2001:db8::7%eth0\nnameserver 2001:db8::1\n\
                    nameserver 169.254.169.253\nnameserver ::ffff:192.0.2.1\n";
        let both = resolv_conf(host, None, &Dns::default(), &Family::ALL);
        assert_eq!(
            both,
            "nameserver 2001:db8::1\nnameserver 169.254.169.253\nnameserver 192.0.2.1\n"
        );
        assert_eq!(
            v4(host, None),
            "nameserver 169.254.169.253\nnameserver 192.0.2.1\n"
        );
    }

    #[test]
    fn where_none_can_be_reached_none_is_invented() {
        let mixed = "nameserver ::1\nnameserver 192.0.2.1\nnameserver 127.0.0.1\n";
        assert_eq!(v4(mixed, Some("nameserver 192.0.2.9")), "nameserver 192.0.2.1\n");
        for only in [
            "nameserver 127.0.0.1\nsearch lan\n",
            "search lan\n",
            "nameserver ::1%lo\nsearch lan\n",
            "nameserver 0.0.0.0\ndomain lan more\n",
            "nameserver ::ffff:127.0.0.1\nsearch lan\n",
            "nameserver 2001:db8::1\nsearch lan\n",
        ] {
            for upstream in [None, Some("nameserver 127.0.0.1\nsearch lan\n")] {
                assert_eq!(
                    v4(only, upstream),
                    "# This container can reach none of the host's resolvers.\nsearch lan\n",
                    "{only}"
                );
            }
        }
        assert!(!no_resolver().contains("nameserver"));
    }

    #[test]
    fn the_dns_settings_of_the_network_take_precedence() {
        let host = "nameserver 192.0.2.1\nsearch lan\noptions ndots:2\n";
        let with = |network: &Dns| resolv_conf(host, None, network, &[Family::V4]);
        assert_eq!(
            with(&dns(&["10.0.0.1"], &["a.b"], "b")),
            "nameserver 10.0.0.1\nsearch a.b b\noptions ndots:2\n"
        );
        assert_eq!(
            with(&dns(&[], &[], "")),
            "nameserver 192.0.2.1\nsearch lan\noptions ndots:2\n"
        );
    }
}
