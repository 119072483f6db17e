//! What the firewalls of this host do with forwarded packets, for a user who wants to know why containers cannot be
//! reached.
//!
//! A packet passes every firewall, and each may drop it: the tables of iptables that plugins change, the tables of the
//! other kind of iptables, and tables made with nft. A packet that one firewall accepts may still be dropped by the
//! next.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::cni::List;
use super::family::Family;
use super::forward::Passage;
use super::{iptables, journal};

/// The state of the firewalls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Firewalls {
    /// Whether the tables that plugins change drop every packet that no rule accepts.
    pub(crate) drops: bool,
    /// Networks configured by fnctr that are in use, but whose rules are missing.
    pub(crate) shut: Vec<String>,
    /// Other firewalls that drop every packet that none of their rules accepts.
    pub(crate) others: Vec<Other>,
}

/// A firewall that no plugin changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Other {
    /// A description of the firewall.
    pub(crate) what: String,
    /// The remedy: the command that lets packets of containers through.
    pub(crate) mend: String,
}

/// Inspects all firewalls, and changes nothing. Returns `None` on a host without iptables. Blocks for some
/// milliseconds.
pub(crate) fn firewalls(state_dir: &Path) -> io::Result<Option<Firewalls>> {
    let saved = match iptables::saved(Family::V4, "filter") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        saved => saved?,
    };
    let mut others: Vec<_> = other_kind().into_iter().collect();
    // On a host without nft, tables of its kind are unlikely.
    if let Ok(chains) = iptables::said("nft", &["-j", "list", "chains"]) {
        others.extend(of_nft(&chains));
    }
    Ok(Some(Firewalls {
        drops: drops(&saved),
        shut: shut(state_dir, &saved)?,
        others,
    }))
}

/// Returns the networks in use whose rules are missing. Uses the configuration at the time of their attachments.
fn shut(state_dir: &Path, v4: &str) -> io::Result<Vec<String>> {
    let entries = journal::all(state_dir).unwrap_or_default();
    let attached = entries.into_iter().filter_map(|entry| entry.attached);
    let lists = attached.filter_map(|attached| List::parse(attached.config).ok());
    let used: BTreeMap<_, _> = lists
        .filter_map(|list| Some((list.name.clone(), Passage::of(&list)?)))
        .collect();
    let mut shut = Vec::new();
    for (network, passage) in used {
        for family in passage.families() {
            let is_open = match family {
                Family::V4 => passage.is_open(v4, family),
                Family::V6 => passage.is_open(&iptables::saved(family, "filter")?, family),
            };
            if !is_open && !shut.contains(&network) {
                shut.push(network.clone());
            }
        }
    }
    Ok(shut)
}

/// Whether packets that no rule accepts are dropped: by the policy, or by a last rule for all packets.
fn drops(saved: &str) -> bool {
    let for_all =
        |line: &str| line.starts_with("-A FORWARD -j DROP") || line.starts_with("-A FORWARD -j REJECT");
    iptables::policy(saved, "FORWARD") == Some("DROP") || saved.lines().any(for_all)
}

/// Returns the tables of the kind that `iptables` does not change, if they drop packets.
fn other_kind() -> Option<Other> {
    let version = iptables::said("iptables", &["--version"]).ok()?;
    let (program, what) = if version.contains("nf_tables") {
        // Checked first, because the program would create missing tables.
        let tables = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
        tables.lines().find(|table| *table == "filter")?;
        ("iptables-legacy", "the legacy tables")
    } else {
        ("iptables-nft", "the tables of nf_tables")
    };
    let saved = iptables::said(&format!("{program}-save"), &["-t", "filter"]).ok()?;
    drops(&saved).then(|| Other {
        what: format!("{what} ({program})"),
        mend: format!(
            "{program} -I FORWARD -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT, and for what goes out {program} \
             -I FORWARD -i BRIDGE -j ACCEPT; or make it the iptables of this host (update-alternatives)"
        ),
    })
}

/// Returns the chains in the output of `nft -j list chains` that drop forwarded packets, except those of iptables.
fn of_nft(chains: &str) -> Vec<Other> {
    let said: Value = serde_json::from_str(chains).unwrap_or_default();
    let all = said.get("nftables").and_then(Value::as_array);
    let chains = all.into_iter().flatten().filter_map(|one| one.get("chain"));
    let other = |chain: &Value| {
        let word = |name: &str| chain.get(name).and_then(Value::as_str);
        let (family, table, name) = (word("family")?, word("table")?, word("name")?);
        let is_of_iptables = matches!(family, "ip" | "ip6") && table == "filter" && name == "FORWARD";
        let drops = word("hook") == Some("forward") && word("policy") == Some("drop");
        (drops && !is_of_iptables).then(|| Other {
            what: format!("table {family} {table} of nftables"),
            mend: format!(
                "nft insert rule {family} {table} {name} ct status dnat accept, and the same for what goes out: iifname BRIDGE \
                 accept, ct state established,related accept"
            ),
        })
    };
    chains.filter_map(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firewall_drops_by_its_policy_or_by_a_last_rule() {
        assert!(drops("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"));
        assert!(drops(
            ":FORWARD ACCEPT [0:0]\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n"
        ));
        assert!(!drops(":FORWARD ACCEPT [0:0]\n-A FORWARD -i eth0 -j DROP\n"));
        assert!(!drops(""));
    }

    #[test]
    fn a_table_of_another_program_that_drops_is_found() {
        let chain = |family: &str, table: &str, name: &str, hook: &str, policy: &str| {
            serde_json::json!({ "chain": {
                "family": family, "table": table, "name": name, "handle": 1,
                "type": "filter", "hook": hook, "prio": 0, "policy": policy,
            }})
        };
        let said = serde_json::json!({ "nftables": [
            { "metainfo": { "version": "1.0.6" } },
            chain("ip", "filter", "FORWARD", "forward", "drop"),
            chain("inet", "filter", "input", "input", "drop"),
            chain("inet", "filter", "forward", "forward", "drop"),
            chain("inet", "firewalld", "filter_FORWARD", "forward", "accept"),
            { "chain": { "family": "ip", "table": "filter", "name": "CNI-FORWARD", "handle": 2 } },
        ]});
        let found = of_nft(&said.to_string());
        let what: Vec<_> = found.iter().map(|other| other.what.as_str()).collect();
        assert_eq!(what, ["table inet filter of nftables"]);
        assert!(
            found[0]
                .mend
                .starts_with("nft insert rule inet filter forward ct status dnat accept")
        );
        assert_eq!(of_nft("not JSON"), []);
    }
}
