//! Finds ports of the host that firewall rules redirect: rules of another engine, or of another fnctr with its own
//! state directory.
//!
//! An engine that publishes a port by a rule alone has no listening socket, so the port looks free. Of two rules for
//! the same port the first decides: the second one would be added, but no connection would ever match it
//! (nerdctl#2179).

use std::io;
use std::net::{IpAddr, UdpSocket};

use super::family::Family;
use super::{PortMapping, iptables};

/// Returns the first of these ports that a rule redirects, with a description of the rule. A host without iptables has
/// no rules. Blocks for some milliseconds.
pub(super) fn holder(ports: &[PortMapping]) -> io::Result<Option<(PortMapping, String)>> {
    for family in Family::ALL {
        let of_family = |port: &&PortMapping| match port.host_ip {
            Some(ip) => Family::of(ip) == family,
            // An engine that redirects a port for IPv6 redirects it for IPv4 too.
            None => family == Family::V4,
        };
        let mut ports = ports.iter().filter(of_family).peekable();
        if ports.peek().is_none() {
            continue;
        }
        let saved = match iptables::saved(family, "nat") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            saved => saved?,
        };
        if let Some(found) = ports.find_map(|port| Some((*port, rule_for(&saved, port, is_local)?))) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Returns the rule that redirects the port, described by its comment if there is one.
fn rule_for(saved: &str, port: &PortMapping, is_local: fn(IpAddr) -> bool) -> Option<String> {
    let rules = saved.lines().filter(|line| line.starts_with("-A "));
    let mut redirects = rules.clone().filter(|rule| takes(rule, port, is_local));
    let found = redirects.next()?;
    // A comment, on the rule or on a rule that jumps to its chain, identifies the owner better than the rule itself.
    let chain = found.split(' ').nth(1).unwrap_or_default();
    let way = rules.filter(|rule| rule.ends_with(&format!(" -j {chain}")));
    let comment = [found].into_iter().chain(way).find_map(comment);
    Some(comment.unwrap_or_else(|| found.to_owned()))
}

/// Whether this host has the address: a socket cannot be bound to the address of another host.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

fn takes(rule: &str, port: &PortMapping, is_local: fn(IpAddr) -> bool) -> bool {
    let Some(Redirect { protocol, ports, to }) = Redirect::parse(rule) else {
        return false;
    };
    let ours = port.host_ip.map(|ip| ip.to_canonical());
    let same_ip = match (to, ours.filter(|ours| !ours.is_unspecified())) {
        (None, _) => true,
        (Some(theirs), Some(ours)) => ours == theirs,
        // A redirection of packets for another machine (169.254.169.254 of a cloud) takes no port of this host.
        (Some(theirs), None) => is_local(theirs),
    };
    let has = |(first, last): &(u16, u16)| (*first..=*last).contains(&port.host_port);
    same_ip && protocol == port.protocol.name() && ports.iter().any(has)
}

/// A rule that redirects connections to some ports of the host, from any source.
#[derive(Debug, PartialEq)]
struct Redirect<'a> {
    protocol: &'a str,
    /// Ranges of ports, both ends included.
    ports: Vec<(u16, u16)>,
    /// The only destination address that the rule applies to; `None` is every address.
    to: Option<IpAddr>,
}

impl<'a> Redirect<'a> {
    /// Returns `None` if the rule redirects nothing, or only connections from some sources or to a whole subnet.
    fn parse(rule: &'a str) -> Option<Self> {
        let (mut protocol, mut ports, mut to, mut leads) = (None, Vec::new(), None, false);
        let mut words = rule.split(' ');
        let mut is_not = false;
        while let Some(word) = words.next() {
            match word {
                "!" => {
                    is_not = true;
                    continue;
                }
                "-p" => protocol = words.next(),
                "--dport" | "--dports" if !is_not => {
                    ports = words.next()?.split(',').map(range).collect::<Option<_>>()?;
                }
                "-d" if !is_not => {
                    let (ip, prefix) = words.next()?.split_once('/')?;
                    let ip: IpAddr = ip.parse().ok()?;
                    let whole = if ip.is_ipv4() { "32" } else { "128" };
                    to = (prefix == whole).then_some(ip);
                    // A rule for a whole subnet is about other machines, not about this host.
                    to?;
                }
                // Applies only to connections from some sources, or through some interface.
                "-s" | "-i" | "-o" if !is_not => return None,
                "-j" => leads = matches!(words.next(), Some("DNAT" | "REDIRECT")),
                _ => {}
            }
            is_not = false;
        }
        leads.then_some(())?;
        let protocol = protocol?;
        (!ports.is_empty()).then_some(Self { protocol, ports, to })
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    match text.split_once(':') {
        Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
        None => text.parse().ok().map(|port| (port, port)),
    }
}

/// Returns the text that iptables-save prints as `--comment "…"`, with escaped quotes restored.
fn comment(rule: &str) -> Option<String> {
    let (_, rest) = rule.split_once(" --comment \"")?;
    let mut said = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '\\' => said.extend(letters.next()),
            '"' => return Some(said),
            letter => said.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = r#"*nat
:PREROUTING ACCEPT [0:0]
:CNI-DN-aa - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A PREROUTING -i eth1 -p tcp -m tcp --dport 9001 -j DNAT --to-destination 10.9.0.1:80
-A PREROUTING -d 198.51.100.0/24 -p tcp -m tcp --dport 9002 -j DNAT --to-destination 10.9.0.1:80
-A PREROUTING -p tcp -m tcp --dport 9100:9102 -j REDIRECT --to-ports 80
-A CNI-DN-aa -s 10.4.0.0/24 -p tcp -m tcp --dport 8905 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-aa -p tcp -m tcp --dport 8905 -j DNAT --to-destination 10.4.0.47:80
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"bridge\" id: \"k8s.io-ea6b\"" -m multiport --dports 8905 -j CNI-DN-aa
-A DOCKER ! -i docker0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.2:53
-A PREROUTING -d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.9.0.1:8181
-A DOCKER -d 127.0.0.1/32 ! -i docker0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:80
COMMIT
"#;

    #[test]
    fn a_port_that_a_rule_redirects_is_found_with_the_comment_of_the_rule() {
        let found = |port: &str| rule_for(SAVED, &port.parse().unwrap(), |ip| ip.is_loopback());
        let theirs = "dnat name: \"bridge\" id: \"k8s.io-ea6b\"";
        assert_eq!(found("8905:80").as_deref(), Some(theirs));
        assert_eq!(found("192.0.2.1:8905:80").as_deref(), Some(theirs));
        assert!(found("53:53/udp").unwrap().starts_with("-A DOCKER ! -i docker0"));
        assert!(found("127.0.0.1:8081:80").is_some() && found("8081:80").is_some());
        assert!(found("0.0.0.0:8081:80").is_some());
        assert!(found("9101:80").is_some());
        for free in [
            "8906:80",
            "8905:80/udp",
            "53:53",
            "192.0.2.1:8081:80",
            // Rules for one interface only, and for other hosts only.
            "9001:80",
            "9002:80",
            "9103:80",
            "80:80",
        ] {
            assert_eq!(found(free), None, "{free}");
        }
        assert!(found("169.254.169.254:80:80").is_some(), "if it is this host's");
        assert_eq!(rule_for("", &"80:80".parse().unwrap(), is_local), None);
        assert!(is_local("127.0.0.1".parse().unwrap()) && !is_local("192.0.2.1".parse().unwrap()));
    }
}
