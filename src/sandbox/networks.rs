//! The networks of this host, how often each is used, and which of several is chosen next.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bridge::{self, NewNetwork};
use super::cni::{List, find, read_dirs};
use super::configured;
use super::family::Family;
use super::journal::Entry;
use super::known::{ConfiguredNetwork, DEFAULT, NetworkAbout};
use super::{Address, Error, NetworkSettings, PortMapping};
use crate::file_lock::FileLock;
use tokio::time::Instant;

/// How long others may configure networks.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before the lock is tried again.
const AGAIN: Duration = Duration::from_millis(5);

/// What the lock on the configurations is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    /// Attaching to a network, which then stays.
    Shared,
    /// Configuring one, or removing it.
    Alone,
}

/// The networks of this host.
#[derive(Debug)]
pub(crate) struct Networks {
    settings: NetworkSettings,
    /// How many sandboxes are attached to each.
    uses: Mutex<BTreeMap<String, usize>>,
}

impl Networks {
    pub(super) fn new<'a>(settings: &NetworkSettings, entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut uses = BTreeMap::new();
        for attached in entries.filter_map(|entry| entry.attached.as_ref()) {
            *uses.entry(attached.network.clone()).or_default() += 1;
        }
        Self {
            settings: settings.clone(),
            uses: Mutex::new(uses),
        }
    }

    fn uses(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn took(&self, network: &str) {
        *self.uses().entry(network.to_owned()).or_default() += 1;
    }

    pub(super) fn gave_back(&self, network: &str) {
        if let Some(uses) = self.uses().get_mut(network) {
            *uses = uses.saturating_sub(1);
        }
    }

    /// Returns these networks, the least used one first, and counts one more user of it. Returns the default network if
    /// `names` is empty. Networks after the first are left out if they cannot be read.
    pub(super) fn choose(&self, names: &[String]) -> Result<Vec<List>, Error> {
        let default = [DEFAULT.to_owned()];
        let mut names: Vec<&String> = if names.is_empty() {
            default.iter().collect()
        } else {
            names.iter().collect()
        };
        {
            let mut uses = self.uses();
            names.sort_by_key(|name| uses.get(name.as_str()).copied().unwrap_or_default());
            names.dedup();
            if let Some(first) = names.first() {
                *uses.entry((*first).clone()).or_default() += 1;
            }
        }
        let mut lists = Vec::new();
        for name in names {
            match self.get(name) {
                Ok(list) => lists.push(list),
                Err(error) if lists.is_empty() => {
                    self.gave_back(name);
                    return Err(error);
                }
                Err(error) => tracing::warn!(network = name.as_str(), %error, "skipped an unusable network"),
            }
        }
        Ok(lists)
    }

    /// Returns one network. The default network is configured if it does not exist yet.
    pub(super) fn get(&self, name: &str) -> Result<List, Error> {
        match find(&self.settings.config_dirs, name) {
            Err(Error::NoSuchNetwork { .. }) if name == DEFAULT => {
                let created = self.create(&NewNetwork {
                    name: DEFAULT.to_owned(),
                    ..NewNetwork::default()
                });
                match created {
                    // Another process may have configured it first.
                    Ok(_) | Err(Error::Exists { .. }) => Ok(find(&self.settings.config_dirs, name)?.1),
                    Err(error) => Err(error),
                }
            }
            found => Ok(found?.1),
        }
    }

    /// Returns every network, and an error for every file that cannot be used.
    pub(crate) fn list(&self) -> Result<(Vec<ConfiguredNetwork>, Vec<Error>), Error> {
        let (mut known, mut broken) = (Vec::<ConfiguredNetwork>::new(), Vec::new());
        for (file, list) in read_dirs(&self.settings.config_dirs)? {
            match list {
                Ok(list) if known.iter().any(|before| before.name == list.name) => {
                    broken.push(Error::Config {
                        file,
                        why: format!("network {} is configured by an earlier file already", list.name),
                    })
                }
                Ok(list) => known.push(ConfiguredNetwork {
                    plugins: list
                        .plugins
                        .iter()
                        .map(|plugin| List::kind(plugin).to_owned())
                        .collect(),
                    subnets: list.subnets(),
                    about: NetworkAbout::of(&list, &file),
                    is_ours: configured::is_ours(&list),
                    name: list.name,
                    config: list.json,
                    file,
                }),
                Err(error) => broken.push(error),
            }
        }
        Ok((known, broken))
    }

    /// Returns one network, with the file that configures it.
    pub(crate) fn known(&self, name: &str) -> Result<ConfiguredNetwork, Error> {
        self.get(name)?;
        let (known, _) = self.list()?;
        let found = known.into_iter().find(|known| known.name == name);
        found.ok_or_else(|| Error::NoSuchNetwork {
            name: name.to_owned(),
            known: vec![],
        })
    }

    /// The right to configure networks and to remove them, or to attach to one that is to stay. Blocks for up to ten seconds.
    pub(super) fn hold(&self, how: Holding) -> Result<Option<FileLock>, Error> {
        let Some(dir) = self.settings.config_dirs.first() else {
            return Ok(None);
        };
        let failed = |why: io::Error| Error::Config {
            file: dir.clone(),
            why: format!("it cannot be locked: {why}"),
        };
        let until = Instant::now() + PATIENCE;
        loop {
            let opened = match (File::open(dir), how) {
                (Err(error), Holding::Shared) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                (Err(error), Holding::Alone) if error.kind() == io::ErrorKind::NotFound => {
                    let mut made = fs::DirBuilder::new();
                    made.recursive(true).mode(0o755).create(dir).map_err(failed)?;
                    continue;
                }
                (opened, _) => opened.map_err(failed)?,
            };
            let lock = match how {
                Holding::Shared => FileLock::shared(opened),
                Holding::Alone => FileLock::exclusive(opened),
            };
            match lock.map_err(failed)? {
                Some(lock) => return Ok(Some(lock)),
                None if Instant::now() < until => std::thread::sleep(AGAIN),
                None => return Err(failed(io::ErrorKind::TimedOut.into())),
            }
        }
    }

    /// Fails if a network is not configured any more. For a caller that holds the right to attach.
    pub(super) fn is_there(&self, list: &List) -> Result<(), Error> {
        match configured::is_ours(list) {
            true => find(&self.settings.config_dirs, &list.name).map(drop),
            false => Ok(()),
        }
    }

    /// Configures a bridge network permanently.
    pub(crate) fn create(&self, new: &NewNetwork) -> Result<ConfiguredNetwork, Error> {
        // Of two at the same time, both would find the same subnet free.
        let _alone = self.hold(Holding::Alone)?;
        match find(&self.settings.config_dirs, &new.name) {
            Ok((file, list)) => {
                return Err(Error::Exists {
                    name: list.name,
                    file,
                });
            }
            Err(Error::NoSuchNetwork { .. }) => {}
            Err(error) => return Err(error),
        }
        let (known, _) = self.list()?;
        bridge::create(&self.settings, new, &known)?;
        let (known, _) = self.list()?;
        let made = known.into_iter().find(|known| known.name == new.name);
        made.ok_or_else(|| Error::NoSuchNetwork {
            name: new.name.clone(),
            known: vec![],
        })
    }

    /// Removes a network that [`Self::create`] made, with its bridge.
    pub(super) fn remove(&self, name: &str, entries: &[Entry]) -> Result<(), Error> {
        let (file, list) = find(&self.settings.config_dirs, name)?;
        if !configured::is_ours(&list) {
            return Err(Error::NotOurs {
                name: name.to_owned(),
                file,
            });
        }
        if let Some(by) = users(name, entries) {
            return Err(Error::InUse {
                name: name.to_owned(),
                by,
            });
        }
        bridge::remove(&self.settings, &file, &list)
    }

    /// Succeeds if these ports can be published on this network now.
    pub(super) fn may_publish(
        &self,
        list: &List,
        ports: &[PortMapping],
        entries: &[Entry],
    ) -> Result<(), Error> {
        if !list.publishes() {
            return Err(Error::CannotPublish {
                network: list.name.clone(),
            });
        }
        let families = list.families();
        // If the configuration has no subnets, the families are checked again once there are addresses.
        let (possible, listened): (&[_], &[_]) = match families.as_slice() {
            [] => (&Family::ALL, &[Family::V4]),
            known => (known, known),
        };
        for (at, port) in ports.iter().enumerate() {
            let unpublishable = |why: String| Error::Unpublishable {
                port: port.to_string(),
                network: list.name.clone(),
                why,
            };
            if let Some(why) = port.unreachable(possible) {
                return Err(unpublishable(why));
            }
            let taken = |by: String| Error::PortTaken {
                port: port.to_string(),
                by,
            };
            if ports.iter().take(at).any(|before| port.clashes(*before)) {
                return Err(taken("the same container".to_owned()));
            }
            for entry in entries {
                if entry.ports().any(|theirs| port.clashes(theirs)) {
                    return Err(taken(entry.holder()));
                }
            }
            port.is_free(listened).map_err(|why| match why.kind() {
                io::ErrorKind::AddrNotAvailable => {
                    unpublishable("no interface of this host has its host IP".to_owned())
                }
                _ => taken(format!("another program ({why})")),
            })?;
        }
        Ok(())
    }
}

/// Succeeds if connections to the ports can reach these addresses.
pub(super) fn are_reachable(
    network: &str,
    ports: &[PortMapping],
    addresses: &[Address],
) -> Result<(), Error> {
    let families = Family::of_all(addresses.iter().map(|address| address.ip));
    for port in ports {
        if let Some(why) = port.unreachable(&families) {
            return Err(Error::Unpublishable {
                port: port.to_string(),
                network: network.to_owned(),
                why,
            });
        }
    }
    Ok(())
}

/// The maximum number of containers that are named.
const NAMED: usize = 10;

/// Describes the users of a network; `None` if it has none. Containers are named with their containerd, because a
/// network is shared by every containerd that uses this host's networks.
fn users(network: &str, entries: &[Entry]) -> Option<String> {
    let mut scopes = BTreeMap::<&str, (Vec<&str>, usize)>::new();
    for entry in entries {
        if entry
            .attached
            .as_ref()
            .is_some_and(|attached| attached.network == network)
        {
            let (containers, pooled) = scopes.entry(&entry.scope).or_default();
            match &entry.container {
                Some(container) => containers.push(container),
                None => *pooled += 1,
            }
        }
    }
    let mut said = Vec::new();
    for (scope, (containers, pooled)) in scopes {
        let mut parts = Vec::new();
        let named: Vec<_> = containers.iter().take(NAMED).copied().collect();
        match containers.len() {
            0 => {}
            1 => parts.push(format!("container {}", named.join(", "))),
            all if all > NAMED => {
                parts.push(format!(
                    "containers {} and {} more",
                    named.join(", "),
                    all - NAMED
                ));
            }
            _ => parts.push(format!("containers {}", named.join(", "))),
        }
        match pooled {
            0 => {}
            1 => parts.push("a network namespace of a pool".to_owned()),
            all => parts.push(format!("{all} network namespaces of a pool")),
        }
        let (address, namespace) = scope.split_once('\n').unwrap_or((scope, ""));
        said.push(format!(
            "{} (namespace {namespace} of {address})",
            parts.join(" and ")
        ));
    }
    (!said.is_empty()).then(|| said.join(", "))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::journal::Attached;
    use super::*;

    fn settings(dir: &std::path::Path) -> NetworkSettings {
        NetworkSettings {
            config_dirs: vec![dir.join("own"), dir.join("others")],
            address_dir: dir.join("addresses"),
            ..NetworkSettings::default()
        }
    }

    fn configure(dir: &std::path::Path, name: &str) {
        fs::create_dir_all(dir.join("others")).unwrap();
        let text = format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"ptp"}}"#);
        fs::write(dir.join(format!("others/{name}.conf")), text).unwrap();
    }

    #[test]
    fn the_network_that_is_used_least_is_next_and_returned_ones_count_again() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c"].map(str::to_owned);
        for name in &names {
            configure(dir.path(), name);
        }
        let networks = Networks::new(&settings(dir.path()), std::iter::empty());
        let next = || {
            let lists = networks.choose(&names).unwrap();
            assert_eq!(lists.len(), 3, "the others are there if it is full");
            lists[0].name.clone()
        };
        assert_eq!([next(), next(), next(), next()], ["a", "b", "c", "a"]);
        networks.gave_back("b");
        assert_eq!([next(), next()], ["b", "b"]);
    }

    #[test]
    fn the_default_network_is_configured_on_first_use_and_stays_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let networks = Networks::new(&settings(dir.path()), std::iter::empty());
        let first = networks.choose(&[]).unwrap().remove(0);
        assert_eq!(first.name, DEFAULT);
        assert!(first.publishes());
        let again = Networks::new(&settings(dir.path()), std::iter::empty());
        assert_eq!(again.choose(&[]).unwrap(), [first]);
        let (known, broken) = networks.list().unwrap();
        assert_eq!((known.len(), broken.len()), (1, 0));
        assert!(known[0].file.starts_with(dir.path().join("own")));
    }

    #[test]
    fn a_network_is_created_once_in_a_subnet_of_its_own_and_only_our_own_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        configure(dir.path(), "theirs");
        let networks = Networks::new(&settings(dir.path()), std::iter::empty());
        let new = |name: &str| NewNetwork {
            name: name.to_owned(),
            ..NewNetwork::default()
        };
        let (one, two) = (
            networks.create(&new("one")).unwrap(),
            networks.create(&new("two")).unwrap(),
        );
        assert_ne!(one.subnets, two.subnets);
        assert!(matches!(networks.create(&new("one")), Err(Error::Exists { .. })));
        assert!(matches!(networks.create(&new("../x")), Err(Error::Name { .. })));
        assert!(matches!(
            networks.remove("theirs", &[]),
            Err(Error::NotOurs { .. })
        ));
        networks.remove("one", &[]).unwrap();
        assert!(matches!(
            networks.remove("one", &[]),
            Err(Error::NoSuchNetwork { .. })
        ));
    }

    fn entry(id: &str, scope: &str, container: Option<&str>, network: &str) -> Entry {
        Entry {
            id: id.into(),
            scope: scope.into(),
            owner: "o".into(),
            netns: "/n".into(),
            container: container.map(str::to_owned),
            attached: Some(Attached {
                network: network.into(),
                interface: "eth0".into(),
                config: serde_json::json!({}),
                arguments: serde_json::Map::new(),
                result: None,
                refused: None,
            }),
        }
    }

    #[test]
    fn a_network_in_use_is_not_removed_and_its_users_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let networks = Networks::new(&settings(dir.path()), std::iter::empty());
        let new = NewNetwork {
            name: "one".into(),
            ..NewNetwork::default()
        };
        networks.create(&new).unwrap();
        let (here, there) = ("/run/a.sock\nfnctr", "/run/b.sock\nmoby");
        let entries = [
            entry("s1", here, Some("c1"), "one"),
            entry("s2", here, Some("c2"), "one"),
            entry("s3", here, None, "one"),
            entry("s4", there, Some("c3"), "one"),
            entry("s5", here, Some("c4"), "other"),
        ];
        let refused = networks.remove("one", &entries).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "network one is in use by containers c1, c2 and a network namespace of a pool (namespace fnctr of /run/a.sock), \
             container c3 (namespace moby of /run/b.sock)"
        );
        assert!(refused.is_conflict());
        let many: Vec<_> = (0..12)
            .map(|n| entry("s", here, Some(&format!("c{n:02}")), "one"))
            .collect();
        let refused = networks.remove("one", &many).unwrap_err().to_string();
        assert!(
            refused.contains("c00, c01") && refused.contains("c09 and 2 more"),
            "{refused}"
        );
        networks.known("one").unwrap();
        networks.remove("one", &entries[4..]).unwrap();
    }

    #[test]
    fn a_port_is_published_on_a_network_that_has_addresses_of_its_family() {
        let dir = tempfile::tempdir().unwrap();
        let networks = Networks::new(&settings(dir.path()), std::iter::empty());
        let list = networks.choose(&[]).unwrap().remove(0);
        let may = |list: &List, port: &str| networks.may_publish(list, &[port.parse().unwrap()], &[]);
        let refused = may(&list, "[::1]:18082:80").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "port [::1]:18082:80/tcp cannot be published on network fnctr: its host IP is an IPv6 address, and the network has \
             only IPv4 addresses"
        );
        assert!(refused.is_callers());
        // An address for documentation, which no interface has (RFC 5737).
        let refused = may(&list, "192.0.2.1:18082:80").unwrap_err();
        assert!(
            refused
                .to_string()
                .ends_with("no interface of this host has its host IP"),
            "{refused}"
        );
        // A network without subnets in its configuration is judged by its actual addresses.
        let silent = serde_json::json!({
            "cniVersion": "1.0.0", "name": "silent", "plugins": [
                { "type": "bridge", "ipam": { "type": "dhcp" } },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        });
        let silent = List::parse(silent).unwrap();
        assert!(!matches!(
            may(&silent, "[::]:18083:80"),
            Err(Error::Unpublishable { .. })
        ));
        let addresses = [Address {
            ip: "10.0.0.2".parse().unwrap(),
            prefix: 24,
        }];
        let ports = ["[::]:18083:80".parse().unwrap()];
        assert!(matches!(
            are_reachable("silent", &ports, &addresses),
            Err(Error::Unpublishable { .. })
        ));
        are_reachable("silent", &["18083:80".parse().unwrap()], &addresses).unwrap();
    }
}
