//! What all clones of [`Sandboxes`](super::Sandboxes) share.

use std::path::PathBuf;
use std::sync::Mutex;

use tokio::sync::Semaphore;

use super::cni::{List, Plugins};
use super::journal::Journal;
use super::networks::Networks;
use super::{Error, PortMapping};

#[derive(Debug)]
pub(super) struct Inner {
    /// The directory in which namespaces are pinned.
    pub(super) pins: PathBuf,
    pub(super) scope: String,
    pub(super) plugins: Plugins,
    pub(super) networks: Networks,
    pub(super) journal: Journal,
    /// Serialises changes of the firewall, because each change is computed from the rules that exist.
    pub(super) firewall: Mutex<()>,
    /// Limits how many attachments run plugins at once: plugins are processes that start processes, and more of them
    /// would only wait for each other.
    pub(super) turns: Semaphore,
}

impl Inner {
    /// Succeeds if all plugins of the network are installed and it can publish the ports.
    pub(super) fn can_attach(&self, list: &List, ports: &[PortMapping]) -> Result<(), Error> {
        for plugin in &list.plugins {
            let kind = List::kind(plugin);
            if self.plugins.program(kind).is_none() {
                return Err(Error::NoPlugin {
                    network: list.name.clone(),
                    plugin: kind.to_owned(),
                    dirs: self.plugins.dirs.clone(),
                });
            }
        }
        if ports.is_empty() {
            return Ok(());
        }
        self.networks.may_publish(list, ports, &self.journal.all()?)
    }
}
