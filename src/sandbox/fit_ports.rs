//! Makes the ports that a sandbox publishes fit beside all others: chooses those that are left to the host, and refuses
//! those that another sandbox, a program or a rule of the firewall has.

use super::cni::List;
use super::family::Family;
use super::journal::Entry;
use super::{Error, PortMapping, redirects};

/// How many ports are tried before none counts as free.
const TRIES: usize = 100;

/// Chooses the ports that are not chosen yet.
///
/// # Errors
/// [`Error::PortTaken`] if a port is taken, or none is free.
pub(super) fn fit(entry: &mut Entry, others: &[Entry], list: &List) -> Result<(), Error> {
    let wanted: Vec<_> = entry.ports().collect();
    let mut refused = Vec::new();
    for _ in 0..TRIES {
        let chosen = choose(&wanted, others, list, &refused)?;
        entry.set_ports(&chosen);
        clash(entry, others)?;
        match redirected(&chosen) {
            Some((port, by)) if wanted.contains(&port) => {
                let port = port.to_string();
                return Err(Error::PortTaken { port, by });
            }
            Some((port, _)) => refused.push(port),
            None => return Ok(()),
        }
    }
    Err(none_free(&wanted))
}

fn choose(
    wanted: &[PortMapping],
    others: &[Entry],
    list: &List,
    refused: &[PortMapping],
) -> Result<Vec<PortMapping>, Error> {
    let families = match list.families() {
        known if known.is_empty() => vec![Family::V4],
        known => known,
    };
    let mut chosen: Vec<PortMapping> = Vec::new();
    for port in wanted {
        if port.host_port != 0 {
            chosen.push(*port);
            continue;
        }
        let is_taken = |port: &PortMapping| {
            let theirs = others.iter().flat_map(Entry::ports);
            let ours = wanted.iter().chain(&chosen).chain(refused).copied();
            theirs.chain(ours).any(|other| port.clashes(other))
        };
        let mut tried = (0..TRIES).filter_map(|_| port.choose(&families).ok());
        let found = tried.find(|port| !is_taken(port));
        chosen.push(found.ok_or_else(|| none_free(&[*port]))?);
    }
    Ok(chosen)
}

fn none_free(wanted: &[PortMapping]) -> Error {
    let open = wanted.iter().find(|port| port.host_port == 0);
    Error::PortTaken {
        port: open.map(ToString::to_string).unwrap_or_default(),
        by: format!("others: each of the {TRIES} ports that were tried for it is taken"),
    }
}

/// Fails if another entry publishes the same port of the host.
fn clash(entry: &Entry, others: &[Entry]) -> Result<(), Error> {
    for other in others.iter().filter(|other| other.id != entry.id) {
        for theirs in other.ports() {
            if let Some(port) = entry.ports().find(|port| port.clashes(theirs)) {
                let by = other.holder();
                let port = port.to_string();
                return Err(Error::PortTaken { port, by });
            }
        }
    }
    Ok(())
}

/// The first of the ports that a firewall rule redirects, and the rule. It may belong to an engine without entries in this
/// journal.
fn redirected(ports: &[PortMapping]) -> Option<(PortMapping, String)> {
    match redirects::holder(ports) {
        Ok(found) => found.map(|(port, by)| (port, format!("a rule of the firewall ({by})"))),
        // Not fatal: the plugins use the same firewall, and report what is wrong with it.
        Err(error) => {
            tracing::debug!(%error, "cannot check which ports the firewall redirects");
            None
        }
    }
}
