//! Makes sandboxes and removes them: the journal entry is written first and removed last, with the namespace and the
//! plugins in between.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::blocking::blocking;
use super::cni::{Added, Attachment, Chain, List, Outcome, Taken, end_stragglers};
use super::forward::Passage;
use super::journal::{Attached, Entry, Refused};
use super::names::is_name;
use super::networks::Holding;
use super::{Error, Reserved, Sandbox, Sandboxes, bridge, fit_ports, netns, networks, rules};
use crate::Context;

/// The name of the interface inside the namespace, by convention.
const INTERFACE: &str = "eth0";

impl Sandboxes {
    /// Makes the reserved sandbox, for a container or, without one, for a pool. If a network is full, the next one is
    /// tried. [`Self::remove`] undoes whatever a failure leaves behind: the caller must register that for teardown
    /// first.
    ///
    /// # Cancellation
    /// Not safe to drop. Interrupting `ctx` ends the running plugin.
    pub(crate) async fn attach(
        &self,
        ctx: &Context,
        reserved: Reserved,
        container: Option<&str>,
    ) -> Result<Sandbox, Error> {
        let mut lists = reserved.lists.iter().peekable();
        while let Some(list) = lists.next() {
            match self.attach_to(ctx, &reserved, list, container).await {
                Err(error) if error.is_busy() && lists.peek().is_some() => {
                    tracing::info!(network = list.name, %error, "a network is full; trying the next one");
                    self.remove(ctx, &reserved.id).await?;
                }
                attached => return attached,
            }
        }
        Err(Error::NoSuchNetwork {
            name: String::new(),
            known: Vec::new(),
        })
    }

    async fn attach_to(
        &self,
        ctx: &Context,
        reserved: &Reserved,
        list: &List,
        container: Option<&str>,
    ) -> Result<Sandbox, Error> {
        let Reserved {
            id, path, arguments, ..
        } = reserved;
        ctx.check()?;
        let list = &bridge::fitted(list);
        let mut entry = self.entry(id, path, container);
        entry.attached = Some(Attached {
            network: list.name.clone(),
            interface: INTERFACE.to_owned(),
            config: list.json.clone(),
            arguments: arguments.clone(),
            result: None,
            refused: None,
        });
        let ports: Vec<_> = entry.ports().collect();
        let (this, of_network) = (Arc::clone(&self.0), list.clone());
        let (mark, mut entry) = blocking(move || {
            // Until the entry is there, the network could be removed.
            let _stays = this.networks.hold(Holding::Shared)?;
            this.networks.is_there(&of_network)?;
            if entry.ports().next().is_some() {
                this.journal.write_alone(&mut entry, |entry, others| {
                    fit_ports::fit(entry, others, &of_network)
                })?;
            } else {
                this.journal.write(&entry)?;
            }
            Ok((netns::create(&entry.netns)?, entry))
        })
        .await?;
        self.0.networks.took(&list.name);
        // The ports are chosen by now.
        let arguments = entry.attached.as_ref().map(|attached| attached.arguments.clone());
        let arguments = arguments.unwrap_or_default();
        let chain = Chain {
            plugins: &self.0.plugins,
            list,
            arguments: &arguments,
        };
        let netns = path.to_string_lossy();
        let at = Attachment {
            id,
            netns: &netns,
            interface: INTERFACE,
        };
        let turn = ctx.run(self.0.turns.acquire()).await?;
        self.let_through(ctx, list).await?;
        let mut added = Added::default();
        loop {
            let next = chain.add_next(ctx, at, &mut added).await;
            if matches!(next, Ok(false)) {
                break;
            }
            if let Some(attached) = &mut entry.attached {
                attached.result.clone_from(&added.result);
                if let Err(Error::Plugin { plugin, what, .. }) = &next {
                    let (plugin, what) = (plugin.clone(), what.clone());
                    attached.refused = Some(Refused { plugin, what });
                }
            }
            let (this, remembered) = (Arc::clone(&self.0), entry.clone());
            blocking(move || this.journal.write(&remembered)).await?;
            next?;
        }
        drop(turn);
        let Added { result, taken } = added;
        let outcome = match &result {
            Some(result) => Outcome::parse(result),
            None => Err("it has no result".to_owned()),
        };
        let Outcome { addresses, dns, .. } = outcome.map_err(|why| Error::Answer {
            network: list.name.clone(),
            plugin: list.plugins.last().map_or("", List::kind).to_owned(),
            why,
        })?;
        networks::are_reachable(&list.name, &ports, &addresses)?;
        Ok(Sandbox {
            id: id.clone(),
            path: path.clone(),
            mark,
            network: list.name.clone(),
            addresses,
            dns,
            taken,
        })
    }

    /// Makes the firewall rules that a network of fnctr needs, before any packet can be sent to it.
    async fn let_through(&self, ctx: &Context, list: &List) -> Result<(), Error> {
        let Some(passage) = Passage::of(list) else {
            return Ok(());
        };
        let this = Arc::clone(&self.0);
        ctx.run(blocking(move || {
            let _alone = this.firewall.lock().unwrap_or_else(PoisonError::into_inner);
            passage.open().map_err(|source| Error::Forward {
                network: passage.network().to_owned(),
                source,
            })
        }))
        .await?
    }

    fn entry(&self, id: &str, path: &Path, container: Option<&str>) -> Entry {
        Entry {
            id: id.to_owned(),
            scope: self.0.scope.clone(),
            owner: self.0.journal.token().to_owned(),
            netns: path.to_owned(),
            container: container.map(str::to_owned),
            attached: None,
        }
    }

    /// Pins an open namespace under a reserved name. [`Self::remove`] undoes it.
    pub(crate) async fn pin_open(&self, id: &str, namespace: File, container: &str) -> Result<(), Error> {
        let entry = self.entry(id, &self.pin(id), Some(container));
        let this = Arc::clone(&self.0);
        blocking(move || {
            this.journal.write(&entry)?;
            netns::pin_open(&entry.netns, &namespace).map(drop)
        })
        .await
    }

    /// Asks the plugins whether the attachment still is as they made it.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn check(&self, ctx: &Context, id: &str) -> Result<(), Error> {
        let Some(entry) = self.read(id).await? else {
            return Ok(());
        };
        let Some((list, attached)) = attached(&entry)? else {
            return Ok(());
        };
        let Some(result) = &attached.result else {
            return Ok(());
        };
        let netns = entry.netns.to_string_lossy();
        let at = Attachment {
            id,
            netns: &netns,
            interface: &attached.interface,
        };
        let _turn = ctx.run(self.0.turns.acquire()).await?;
        self.chain(&list, attached).check(ctx, at, result).await
    }

    fn chain<'a>(&'a self, list: &'a List, attached: &'a Attached) -> Chain<'a> {
        Chain {
            plugins: &self.0.plugins,
            list,
            arguments: &attached.arguments,
        }
    }

    async fn read(&self, id: &str) -> Result<Option<Entry>, Error> {
        let (this, id) = (Arc::clone(&self.0), id.to_owned());
        blocking(move || this.journal.read(&id)).await
    }

    /// Returns the entry. Plugins outlive the process that runs them, so if the owner has ended, its plugins are ended
    /// first.
    async fn read_settled(&self, id: &str) -> Result<Option<Entry>, Error> {
        let (this, id) = (Arc::clone(&self.0), id.to_owned());
        blocking(move || {
            let entry = this.journal.read(&id)?;
            if entry
                .as_ref()
                .is_some_and(|entry| !this.journal.lives(&entry.owner))
            {
                end_stragglers(&id)?;
            }
            Ok(entry)
        })
        .await
    }

    /// Removes a sandbox, whichever process made it and however much of it exists. Succeeds if there is none. If a
    /// plugin fails, the namespace is removed nevertheless, and the entry stays for another attempt. Returns how long
    /// each plugin took.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(crate) async fn remove(&self, ctx: &Context, id: &str) -> Result<Vec<(String, Duration)>, Error> {
        if !is_name(id) {
            tracing::warn!(
                id,
                "not removed: the name is not one of fnctr's network namespaces"
            );
            return Ok(Taken::new());
        }
        let entry = self.read_settled(id).await?;
        let (mut detached, mut network) = (Ok(Taken::new()), None);
        if let Some(entry) = &entry
            && let Some((list, attached)) = attached(entry)?
        {
            network = Some(list.name.clone());
            let (netns, is_pinned) = (entry.netns.to_string_lossy(), netns::is_pinned(&entry.netns));
            let at = Attachment {
                id,
                // The specification's value for a namespace that no longer exists.
                netns: if is_pinned { &netns } else { "" },
                interface: &attached.interface,
            };
            let whole = is_pinned && is_whole(attached);
            let _turn = ctx.run(self.0.turns.acquire()).await?;
            let chain = self.chain(&list, attached);
            let refused = attached.refused.as_ref();
            detached = chain.del(ctx, at, attached.result.as_ref(), refused).await;
            if !whole {
                let removed = rules::remove(ctx, id).await;
                detached = detached.and_then(|taken| removed.map(|()| taken));
            }
        }
        let path = entry.map_or_else(|| self.pin(id), |entry| entry.netns);
        let (this, id, gone) = (Arc::clone(&self.0), id.to_owned(), detached.is_ok());
        blocking(move || {
            netns::remove(&path)?;
            if gone { this.journal.remove(&id) } else { Ok(()) }
        })
        .await?;
        if let (Ok(_), Some(network)) = (&detached, network) {
            self.0.networks.gave_back(&network);
        }
        detached
    }
}

/// Whether the interfaces that plugins made on the host still exist: the kernel removes both ends of a veth pair
/// together.
fn is_whole(attached: &Attached) -> bool {
    let outcome = attached.result.as_ref().map(Outcome::parse);
    let Some(Ok(outcome)) = outcome else { return false };
    let is_there = |name: &String| Path::new("/sys/class/net").join(name).exists();
    outcome.on_host.iter().all(is_there)
}

/// Returns what an entry is attached to, with the configuration at the time of the attachment.
fn attached(entry: &Entry) -> Result<Option<(List, &Attached)>, Error> {
    let Some(attached) = &entry.attached else {
        return Ok(None);
    };
    let list = List::parse(attached.config.clone()).map_err(|why| Error::Config {
        file: PathBuf::from(format!("of sandbox {}", entry.id)),
        why,
    })?;
    Ok(Some((list, attached)))
}
