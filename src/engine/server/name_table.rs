//! The names of containers on their networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::dns::Names;
use crate::engine::Plan;
use crate::sandbox::files;
use crate::{ContainerId, Context};

/// How many digits of an id are a name, too.
const SHORT: usize = 12;
/// How long the host's resolvers are taken to be those that they were.
const FRESH: Duration = Duration::from_secs(1);

/// The containers whose names are known.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    entries: Mutex<BTreeMap<ContainerId, Entry>>,
    /// Those for which a task opens a resolver.
    opening: Mutex<BTreeSet<ContainerId>>,
    /// Which of several addresses is the first one next time.
    turn: AtomicUsize,
}

/// A container on a network.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sandbox: String,
    pub(super) network: String,
    /// In lower case. The first one is the container's own.
    pub(super) names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    /// Ends the resolver.
    pub(super) open: Context,
}

/// The duty to open the resolver of a container. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Opening {
    table: Arc<NameTable>,
    id: ContainerId,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.table.opening().remove(&self.id);
    }
}

impl NameTable {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opening(&self) -> MutexGuard<'_, BTreeSet<ContainerId>> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the names of a container in this sandbox are known.
    pub(super) fn has(&self, id: &ContainerId, sandbox: &str) -> bool {
        let entries = self.entries();
        entries.get(id).is_some_and(|entry| entry.sandbox == sandbox)
    }

    /// Takes the duty to open the resolver of a container; `None` if another task has it.
    pub(super) fn begin(self: &Arc<Self>, id: &ContainerId) -> Option<Opening> {
        self.opening().insert(id.clone()).then(|| Opening {
            table: Arc::clone(self),
            id: id.clone(),
        })
    }

    /// Makes the names of a container known. A resolver of an earlier run ends.
    pub(super) fn insert(&self, id: &ContainerId, entry: Entry) {
        if let Some(before) = self.entries().insert(id.clone(), entry) {
            before.open.cancel();
        }
    }

    /// Forgets the names of a container, and ends its resolver, if it is in this sandbox: it may have another one by now.
    pub(super) fn close(&self, id: &ContainerId, sandbox: &str) {
        if self.has(id, sandbox) {
            self.forget(id);
        }
    }

    /// The same for a container that is gone, whatever its sandbox was.
    pub(super) fn forget(&self, id: &ContainerId) {
        if let Some(entry) = self.entries().remove(id) {
            entry.open.cancel();
        }
    }

    /// Gives a container its names anew.
    pub(super) fn rename(&self, id: &ContainerId, names: Vec<String>) {
        if let Some(entry) = self.entries().get_mut(id) {
            entry.names = names;
        }
    }
}

/// What the containers of a network see.
#[derive(Debug)]
pub(super) struct OfNetwork {
    table: Arc<NameTable>,
    network: String,
    is_internal: bool,
    /// The host's resolvers, and when they were read.
    servers: Mutex<Option<(Instant, Vec<IpAddr>)>>,
}

impl OfNetwork {
    pub(super) fn new(table: &Arc<NameTable>, network: &str, is_internal: bool) -> Self {
        Self {
            table: Arc::clone(table),
            network: network.to_owned(),
            is_internal,
            servers: Mutex::default(),
        }
    }
}

impl Names for OfNetwork {
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        // With the network after it, as in the names of addresses.
        let bare = name
            .strip_suffix(&self.network.to_lowercase())
            .and_then(|name| name.strip_suffix('.'))
            .unwrap_or(name);
        let entries = self.table.entries();
        let having = entries.values().filter(|entry| {
            entry.network == self.network && entry.names.iter().any(|own| own == name || own == bare)
        });
        let mut addresses: Vec<_> = having.flat_map(|entry| entry.addresses.clone()).collect();
        if addresses.is_empty() {
            return None;
        }
        // Each of several containers is the first one at times.
        let turn = self.table.turn.fetch_add(1, Ordering::Relaxed);
        let length = addresses.len();
        addresses.rotate_left(turn % length);
        Some(addresses)
    }

    fn name_of(&self, address: IpAddr) -> Option<String> {
        let entries = self.table.entries();
        let mut on_it = entries.values().filter(|entry| entry.network == self.network);
        let entry = on_it.find(|entry| entry.addresses.contains(&address))?;
        Some(format!("{}.{}", entry.names.first()?, self.network))
    }

    fn leads_on(&self) -> bool {
        !self.is_internal
    }

    fn servers(&self) -> Vec<IpAddr> {
        let mut known = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, servers)) = known.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return servers.clone();
        }
        let servers = files::host_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
        *known = Some((Instant::now(), servers.clone()));
        servers
    }
}

/// The names by which others find a container.
pub(super) fn names_of(plan: &Plan, name: Option<String>) -> Vec<String> {
    let own = name.unwrap_or_else(|| plan.id.to_string());
    let short: String = plan.id.as_str().chars().take(SHORT).collect();
    let aliases = plan.aliases.iter().flatten().cloned();
    let all = [own, short]
        .into_iter()
        .chain(aliases)
        .chain(plan.config.hostname.clone());
    let mut names: Vec<String> = Vec::new();
    for name in all.map(|name| name.to_lowercase()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(network: &str, names: &[&str], last: u8) -> Entry {
        Entry {
            sandbox: format!("s{last}"),
            network: network.to_owned(),
            names: names.iter().map(ToString::to_string).collect(),
            addresses: vec![[10, 0, 0, last].into()],
            open: Context::new(),
        }
    }

    #[test]
    fn names_are_those_of_one_network_and_an_alias_may_have_several_containers() {
        let table = Arc::new(NameTable::default());
        let id = |text: &str| ContainerId::new(text).unwrap();
        table.insert(&id("c1"), entry("front", &["web", "app"], 2));
        table.insert(&id("c2"), entry("front", &["other", "app"], 3));
        table.insert(&id("c3"), entry("back", &["db"], 4));
        let front = OfNetwork::new(&table, "front", true);
        let v4 = |last: u8| IpAddr::from([10, 0, 0, last]);
        assert_eq!(front.addresses("web"), Some(vec![v4(2)]));
        assert_eq!(front.addresses("web.front"), Some(vec![v4(2)]));
        assert_eq!((front.addresses("db"), front.addresses("web.back")), (None, None));
        let firsts: Vec<_> = (0..2).map(|_| front.addresses("app").unwrap()[0]).collect();
        assert_ne!(firsts[0], firsts[1]);
        assert_eq!(front.name_of(v4(3)).as_deref(), Some("other.front"));
        assert_eq!(front.name_of(v4(4)), None);
        assert!(!front.leads_on());
        // A resolver of an earlier run ends nothing.
        table.close(&id("c1"), "another");
        assert!(front.addresses("web").is_some());
        table.close(&id("c1"), "s2");
        assert!(front.addresses("web").is_none());
    }
}
