//! The sandboxes of this host: opening their journal, and reserving one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::cni::Plugins;
use super::inner::Inner;
use super::journal::Journal;
use super::known::is_internal;
use super::names::{PREFIX, is_name, unique};
use super::network_request::NetworkRequest;
use super::networks::Networks;
use super::reserved::{Counts, Reserved};
use super::{Error, NetworkSettings, PortMapping, netns};

/// Makes sandboxes and removes them. Clones share the same state.
#[derive(Debug, Clone)]
pub(crate) struct Sandboxes(pub(super) Arc<Inner>);

impl Sandboxes {
    /// `run_dir` does not survive a reboot. `scope` names the containerd and the namespace in it whose containers use
    /// the sandboxes. `token` is a name of this process that no other process has.
    pub(crate) fn open(
        settings: &NetworkSettings,
        run_dir: &Path,
        scope: &str,
        token: &str,
    ) -> Result<Self, Error> {
        let journal = Journal::open(&settings.state_dir, token)?;
        let plugins = Plugins {
            dirs: settings.plugin_dirs.clone(),
            patience: settings.plugin_patience,
        };
        let networks = Networks::new(settings, journal.all()?.iter());
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self(Arc::new(Inner {
            pins: run_dir.join("netns"),
            scope: scope.to_owned(),
            plugins,
            networks,
            journal,
            firewall: Mutex::default(),
            turns: Semaphore::new(cpus * 2),
        })))
    }

    /// The networks of this host.
    pub(crate) fn networks(&self) -> &Networks {
        &self.0.networks
    }

    /// Chooses the network and the name of a sandbox. A missing plugin, a taken port and a broken configuration are
    /// reported here, before anything is made. The first use of the default network writes its configuration.
    pub(crate) fn reserve(&self, wanted: &NetworkRequest) -> Result<Reserved, Error> {
        let mut lists = self.0.networks.choose(&wanted.networks)?;
        let first = lists.remove(0);
        let counts = Counts {
            inner: Arc::clone(&self.0),
            network: first.name.clone(),
        };
        // As with Docker, nothing is published on a network that leads nowhere.
        let ports: &[PortMapping] = match is_internal(&first) {
            true => &[],
            false => &wanted.ports,
        };
        self.0.can_attach(&first, ports)?;
        // An error of an alternative network is reported to the caller that asks for that network.
        lists.retain(|list| self.0.can_attach(list, ports).is_ok());
        lists.insert(0, first);
        let mut arguments = Map::new();
        if !ports.is_empty() {
            let ports = ports.iter().map(PortMapping::argument).collect();
            arguments.insert("portMappings".to_owned(), Value::Array(ports));
        }
        let id = self.name();
        Ok(Reserved {
            path: self.pin(&id),
            id,
            lists,
            arguments,
            _counts: counts,
        })
    }

    fn name(&self) -> String {
        format!("{PREFIX}{}", unique(self.0.journal.token()))
    }

    pub(super) fn pin(&self, id: &str) -> PathBuf {
        self.0.pins.join(id)
    }

    /// Returns the name and the path for a pin on another container's namespace. The pin is not made yet.
    pub(crate) fn reserve_pin(&self) -> (String, PathBuf) {
        let id = self.name();
        let path = self.pin(&id);
        (id, path)
    }

    /// Returns the path at which a sandbox is pinned, if `id` is the name of a sandbox and it is pinned.
    pub(crate) fn pinned(&self, id: &str) -> Option<PathBuf> {
        let path = self.pin(id);
        (is_name(id) && netns::is_pinned(&path)).then_some(path)
    }
}
