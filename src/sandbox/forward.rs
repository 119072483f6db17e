//! Firewall rules that forward packets to and from a network that fnctr configured. They are needed where the firewall
//! drops every packet that no rule accepts: beside dockerd, under ufw, and after `iptables -P FORWARD DROP`.
//!
//! ```text
//! FORWARD
//!   CNI-FORWARD      of the plugin `firewall`: first the host's own rules (CNI-ADMIN), then for each container what it sends, and
//!                    the answers
//!   FNCTR-BRIDGE     ours, one for each network: connections to published ports, from any source
//!   ...              of other programs
//! ```
//!
//! The plugin `firewall` alone would leave published ports unreachable: it accepts answers but no new connections, and
//! the plugin `portmap` accepts nothing (containernetworking/plugins#467). `firewall` is still used, because it
//! notifies firewalld on hosts where that runs. There is one chain for the whole network, so that the next attachment
//! repairs a flush for all containers that run. The chain comes after CNI-FORWARD, so that a rule in CNI-ADMIN still
//! decides first, as a rule in DOCKER-USER does under Docker.

use std::io;

use super::cni::List;
use super::family::{Family, subnet};
use super::known::is_internal;
use super::{configured, iptables};

/// How often a change is attempted that fails because another process changed the table.
const ATTEMPTS: usize = 5;

/// The packets to let through to and from a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passage {
    network: String,
    bridge: String,
    subnets: Vec<(Family, String)>,
    /// Whether nothing passes but from one of its containers to another.
    is_internal: bool,
}

impl Passage {
    /// Returns the passage of a network that fnctr configured; `None` for other networks, whose rules are up to their
    /// owners.
    pub(super) fn of(list: &List) -> Option<Self> {
        let bridge = configured::interface(list).filter(|_| configured::is_ours(list))?;
        let subnets = list.subnets();
        let subnets: Vec<_> = subnets.iter().filter_map(|text| subnet(text)).collect();
        (!subnets.is_empty()).then(|| Self {
            network: list.name.clone(),
            bridge: bridge.to_owned(),
            subnets,
            is_internal: is_internal(list),
        })
    }

    pub(super) fn network(&self) -> &str {
        &self.network
    }

    /// Makes the chain and its rules if they are missing or incomplete. Blocks for some milliseconds.
    pub(super) fn open(&self) -> io::Result<()> {
        self.each(|saved, family| self.opening(saved, family))
    }

    /// Removes the chain. Succeeds if there is none, and on a host without iptables. Blocks for some milliseconds.
    pub(super) fn close(&self) -> io::Result<()> {
        match self.each(|saved, _| self.closing(saved)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            closed => closed,
        }
    }

    /// Whether a table contains the complete chain.
    pub(super) fn is_open(&self, saved: &str, family: Family) -> bool {
        self.opening(saved, family).is_none()
    }

    pub(super) fn families(&self) -> impl Iterator<Item = Family> {
        let has = |family: &Family| self.subnets.iter().any(|(of, _)| of == family);
        Family::ALL.into_iter().filter(has)
    }

    /// Changes the table of each address family that the network has.
    fn each(&self, change: impl Fn(&str, Family) -> Option<String>) -> io::Result<()> {
        for family in self.families() {
            settle(family, |saved| change(saved, family))?;
        }
        Ok(())
    }

    /// Returns the name of the chain. A bridge's name is unique on the host, and short enough for the name of a chain
    /// (28 letters) with this prefix.
    fn chain(&self) -> String {
        format!("FNCTR-{}", self.bridge)
    }

    /// Returns the rules in the form that iptables-save prints.
    fn rules(&self, family: Family) -> Vec<String> {
        let (chain, bridge) = (self.chain(), &self.bridge);
        if self.is_internal {
            return vec![
                format!("-A {chain} -i {bridge} -o {bridge} -j ACCEPT"),
                format!("-A {chain} -i {bridge} -j DROP"),
                format!("-A {chain} -o {bridge} -j DROP"),
            ];
        }
        let mut rules = Vec::new();
        if family == Family::V4 {
            // Drops packets to ports that are published only on the loopback. The host's own packets are not forwarded;
            // but a packet for 127.0.0.1 from a neighbour is redirected before the kernel checks whether it may be
            // (moby#45610).
            rules.push(format!(
                "-A {chain} -o {bridge} -m conntrack --ctstate DNAT --ctorigdst 127.0.0.0/8 -j DROP"
            ));
        }
        for (_, subnet) in self.subnets.iter().filter(|(of, _)| *of == family) {
            rules.push(format!(
                "-A {chain} -d {subnet} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"
            ));
            rules.push(format!("-A {chain} -s {subnet} -i {bridge} -j ACCEPT"));
        }
        rules
    }

    fn opening(&self, saved: &str, family: Family) -> Option<String> {
        let (chain, wanted) = (self.chain(), self.rules(family));
        let forward: Vec<_> = saved
            .lines()
            .filter(|line| line.starts_with("-A FORWARD "))
            .collect();
        let jumps = self.jumps(saved);
        let plugins = forward.iter().rposition(|rule| rule.ends_with(" -j CNI-FORWARD"));
        let ours = forward.iter().position(|rule| jumps.contains(rule));
        let has = saved
            .lines()
            .filter(|line| line.starts_with(&format!("-A {chain} ")));
        if jumps.len() == 1 && ours > plugins && has.eq(wanted.iter()) {
            return None;
        }
        // The position of the jump once the existing jumps have been deleted.
        let before = |at: usize| forward.iter().take(at + 1).filter(|rule| !jumps.contains(rule));
        let at = plugins.map_or(0, |at| before(at).count()) + 1;
        // Declaring a chain makes it, or empties an existing one.
        let mut text = format!("*filter\n:{chain} - [0:0]\n");
        for rule in &wanted {
            text.push_str(&format!("{rule}\n"));
        }
        for jump in &jumps {
            text.push_str(&format!("{}\n", jump.replacen("-A ", "-D ", 1)));
        }
        let comment = format!("fnctr network {}", self.network);
        text.push_str(&format!(
            "-I FORWARD {at} -m comment --comment \"{comment}\" -j {chain}\nCOMMIT\n"
        ));
        Some(text)
    }

    fn closing(&self, saved: &str) -> Option<String> {
        let chain = self.chain();
        saved
            .lines()
            .find(|line| line.starts_with(&format!(":{chain} ")))?;
        let mut text = "*filter\n".to_owned();
        for jump in self.jumps(saved) {
            text.push_str(&format!("{}\n", jump.replacen("-A ", "-D ", 1)));
        }
        text.push_str(&format!("-F {chain}\n-X {chain}\nCOMMIT\n"));
        Some(text)
    }

    /// Returns the rules of FORWARD that jump to the chain.
    fn jumps<'a>(&self, saved: &'a str) -> Vec<&'a str> {
        let end = format!(" -j {}", self.chain());
        let leads = |line: &&str| line.starts_with("-A FORWARD ") && line.ends_with(&end);
        saved.lines().filter(leads).collect()
    }
}

/// Changes a table until nothing is left to change. Another process may change the table between the read and the
/// change, which then fails as a whole; and two processes that add the same jump at the same moment add it twice.
fn settle(family: Family, change: impl Fn(&str) -> Option<String>) -> io::Result<()> {
    let (mut last, mut made) = (Ok(()), 0);
    for _ in 0..ATTEMPTS {
        let Some(commands) = change(&iptables::saved(family, "filter")?) else {
            return Ok(());
        };
        last = iptables::change(family, &commands);
        match &last {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(_) => {}
            Ok(()) => made += 1,
        }
        // Stops for an iptables that prints a rule differently than it was given, so that the rule would seem to be
        // missing for ever.
        if made == 2 {
            break;
        }
    }
    last
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
