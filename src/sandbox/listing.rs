//! Lists sandboxes, for the user and for the code that removes what a dead process left behind.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::blocking::blocking;
use super::cni::Outcome;
use super::journal::Entry;
use super::names::PREFIX;
use super::networks::Holding;
use super::{Address, Error, PortMapping, Sandboxes, journal};

/// A sandbox, as shown to the user.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// The name of the sandbox.
    pub(crate) id: String,
    /// The container that the sandbox was made for; `None` if it was made for a pool.
    pub(crate) container: Option<String>,
    /// The network that it is attached to.
    pub(crate) network: Option<String>,
    /// Its addresses.
    pub(crate) addresses: Vec<Address>,
    /// The gateway of its network.
    pub(crate) gateway: Option<IpAddr>,
    /// The published ports.
    pub(crate) ports: Vec<PortMapping>,
}

/// How many sandboxes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SandboxCounts {
    /// Sandboxes made for containers.
    pub(crate) own: usize,
    /// Sandboxes made ahead, by processes that are alive.
    pub(crate) pooled: usize,
    /// Sandboxes made ahead, by processes that have ended.
    pub(crate) left: usize,
}

/// Counts the sandboxes of a journal, and changes nothing. All counts are 0 if there is no journal.
pub(crate) fn count_sandboxes(state_dir: &Path) -> SandboxCounts {
    let mut counts = SandboxCounts::default();
    for entry in journal::all(state_dir).unwrap_or_default() {
        match entry.container {
            Some(_) => counts.own += 1,
            None if journal::lives(state_dir, &entry.owner) => counts.pooled += 1,
            None => counts.left += 1,
        }
    }
    counts
}

/// What a sandbox was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MadeFor {
    /// For one container; also returned for a sandbox without an entry.
    Container,
    /// For a pool whose process has ended.
    Pool,
    /// For a pool whose process is alive and maintains it.
    LivePool,
}

impl Sandboxes {
    /// Returns what a sandbox was made for.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn made_for(&self, id: &str) -> Result<MadeFor, Error> {
        let (this, id) = (Arc::clone(&self.0), id.to_owned());
        blocking(move || {
            let entry = this.journal.read(&id)?;
            let pooled = entry.filter(|entry| entry.container.is_none());
            Ok(match pooled {
                None => MadeFor::Container,
                Some(entry) if this.journal.lives(&entry.owner) => MadeFor::LivePool,
                Some(_) => MadeFor::Pool,
            })
        })
        .await
    }

    /// Returns the names of all sandboxes that have an entry, of any scope.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn known(&self) -> Result<BTreeSet<String>, Error> {
        let this = Arc::clone(&self.0);
        blocking(move || Ok(this.journal.all()?.into_iter().map(|entry| entry.id).collect())).await
    }

    /// Returns the sandboxes of this scope whose owner has ended. The caller must find out which of them are in use by
    /// containers.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn orphans(&self) -> Result<Vec<String>, Error> {
        let this = Arc::clone(&self.0);
        blocking(move || {
            this.journal.forget_the_dead();
            let entries = this.journal.all()?.into_iter();
            let orphans =
                entries.filter(|entry| entry.scope == this.scope && !this.journal.lives(&entry.owner));
            Ok(orphans.map(|entry| entry.id).collect())
        })
        .await
    }

    /// Returns the names of pinned namespaces that have no entry.
    pub(crate) async fn strays(&self) -> Result<Vec<String>, Error> {
        let this = Arc::clone(&self.0);
        blocking(move || {
            // The pins are read first: an entry is written before its pin is made, and removed after it.
            let found = std::fs::read_dir(&this.pins).into_iter().flatten().flatten();
            let names: Vec<_> = found
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect();
            let known: BTreeSet<_> = this.journal.all()?.into_iter().map(|entry| entry.id).collect();
            Ok(names
                .into_iter()
                .filter(|name| name.starts_with(PREFIX) && !known.contains(name))
                .collect())
        })
        .await
    }

    /// Returns all sandboxes of this scope.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, Error> {
        let entries = self.0.journal.all()?.into_iter();
        let ours = entries.filter(|entry| entry.scope == self.0.scope);
        Ok(ours.map(Self::listed).collect())
    }

    /// Returns all sandboxes of all scopes.
    pub(crate) fn list_all(&self) -> Result<Vec<Listed>, Error> {
        let entries = self.0.journal.all()?.into_iter();
        Ok(entries.map(Self::listed).collect())
    }

    fn listed(entry: Entry) -> Listed {
        let attached = entry.attached.as_ref();
        let result = attached.and_then(|attached| Outcome::parse(attached.result.as_ref()?).ok());
        Listed {
            network: attached.map(|attached| attached.network.clone()),
            gateway: result.as_ref().and_then(|outcome| outcome.gateway),
            addresses: result.map(|outcome| outcome.addresses).unwrap_or_default(),
            ports: entry.ports().collect(),
            container: entry.container,
            id: entry.id,
        }
    }

    /// Removes a network that fnctr configured. Fails if the network is in use.
    pub(crate) fn remove_network(&self, name: &str) -> Result<(), Error> {
        // Nobody attaches to it meanwhile.
        let _alone = self.0.networks.hold(Holding::Alone)?;
        self.0.networks.remove(name, &self.0.journal.all()?)
    }
}
