//! Which sandboxes there are: for a person to look at, and for whoever must undo what a process left.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::cni::Outcome;
use super::journal::Entry;
use super::{Address, Error, PREFIX, PortMapping, Sandboxes, blocking, journal};

/// A sandbox as a person sees it.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) id: String,
    /// The container that it was made for; `None` was made for the pool.
    pub(crate) container: Option<String>,
    /// The network that it is attached to.
    pub(crate) network: Option<String>,
    /// Its addresses.
    pub(crate) addresses: Vec<Address>,
    /// What is published.
    pub(crate) ports: Vec<PortMapping>,
}

/// How many sandboxes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// Made for containers.
    pub(crate) own: usize,
    /// Made ahead, by processes that live.
    pub(crate) pooled: usize,
    /// Made ahead, by processes that are gone.
    pub(crate) left: usize,
}

/// Counts the sandboxes of a journal, and changes nothing. None where there is no journal.
pub(crate) fn standing(state_dir: &Path) -> Standing {
    let mut standing = Standing::default();
    for entry in journal::all(state_dir).unwrap_or_default() {
        match entry.container {
            Some(_) => standing.own += 1,
            None if journal::lives(state_dir, &entry.owner) => standing.pooled += 1,
            None => standing.left += 1,
        }
    }
    standing
}

/// Whose a sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MadeFor {
    /// One container's, and no other's, or nobody's.
    Container,
    /// A pool's whose process is gone.
    Pool,
    /// A pool's whose process lives and looks after it.
    PoolOfTheLiving,
}

impl Sandboxes {
    /// Whose a sandbox is.
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
                Some(entry) if this.journal.lives(&entry.owner) => MadeFor::PoolOfTheLiving,
                Some(_) => MadeFor::Pool,
            })
        })
        .await
    }

    /// The names of all sandboxes that have an entry, of whichever scope.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn known(&self) -> Result<BTreeSet<String>, Error> {
        let this = Arc::clone(&self.0);
        blocking(move || Ok(this.journal.all()?.into_iter().map(|entry| entry.id).collect())).await
    }

    /// What nobody looks after: sandboxes of our scope whose maker is gone. The caller knows which of them containers use.
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

    /// The names of namespaces that are pinned here and that nothing knows of.
    pub(crate) async fn strays(&self) -> Result<Vec<String>, Error> {
        let this = Arc::clone(&self.0);
        blocking(move || {
            // In this order: an entry is there before its pin, and goes after it.
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

    /// All sandboxes of our scope.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, Error> {
        let entries = self.0.journal.all()?.into_iter();
        let ours = entries.filter(|entry| entry.scope == self.0.scope);
        Ok(ours.map(Self::listed).collect())
    }

    /// All sandboxes of all scopes.
    pub(crate) fn list_all(&self) -> Result<Vec<Listed>, Error> {
        let entries = self.0.journal.all()?.into_iter();
        Ok(entries.map(Self::listed).collect())
    }

    fn listed(entry: Entry) -> Listed {
        let attached = entry.attached.as_ref();
        let result = attached.and_then(|attached| Outcome::parse(attached.result.as_ref()?).ok());
        Listed {
            network: attached.map(|attached| attached.network.clone()),
            addresses: result.map(|outcome| outcome.addresses).unwrap_or_default(),
            ports: entry.ports().collect(),
            container: entry.container,
            id: entry.id,
        }
    }

    /// Removes a network that fnctr configured; not one that anything is attached to.
    pub(crate) fn remove_network(&self, name: &str) -> Result<(), Error> {
        self.0.networks.remove(name, &self.0.journal.all()?)
    }
}
