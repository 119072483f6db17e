//! The networks of this host.

use super::error::{Error, Kind, Result, Step};
use super::{Deps, Engine};
use crate::events::{Action, Event, Kind as EventKind};
use crate::sandbox::{ConfiguredNetwork, DEFAULT, NewNetwork, Sandboxes};

impl Engine {
    /// Every network that is configured on this host. A file that cannot be used is logged, and left out.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn networks(&self) -> Result<Vec<ConfiguredNetwork>> {
        self.with_networks(Step::FindNetwork, "*", |sandboxes| {
            let (known, broken) = sandboxes.networks().list()?;
            for error in broken {
                tracing::warn!(error = %crate::chain(&error), "a network cannot be used");
            }
            Ok(known)
        })
        .await
    }

    /// The default network, which is configured if it has not been used yet.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] if no subnet is free for it on this host.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn default_network(&self) -> Result<ConfiguredNetwork> {
        self.with_networks(Step::FindNetwork, DEFAULT, |sandboxes| {
            sandboxes.networks().known(DEFAULT)
        })
        .await
    }

    /// Configures a bridge network.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if there is one of that name; [`Kind::InvalidPlan`] and [`Kind::Unsupported`] for what cannot be a
    /// network on this host.
    ///
    /// # Cancellation
    /// Safe to drop: the network is configured all the same.
    pub(crate) async fn create_network(&self, new: NewNetwork) -> Result<ConfiguredNetwork> {
        let name = new.name.clone();
        let create = move |sandboxes: &Sandboxes| sandboxes.networks().create(&new);
        let made = self.with_networks(Step::MakeNetwork, &name, create).await?;
        self.0.tell_network(Action::Create, &name);
        Ok(made)
    }

    /// Removes a network that fnctr has configured, with its bridge.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if containers are attached to it, or another program has configured it; [`Kind::InvalidPlan`] if
    /// there is none of that name.
    ///
    /// # Cancellation
    /// Safe to drop: the network is removed all the same.
    pub(crate) async fn remove_network(&self, name: &str) -> Result<()> {
        let gone = name.to_owned();
        let remove = move |sandboxes: &Sandboxes| sandboxes.remove_network(&gone);
        self.with_networks(Step::RemoveNetwork, name, remove).await?;
        self.0.tell_network(Action::Destroy, name);
        Ok(())
    }

    /// Removes the networks without containers, of those that are chosen. One that cannot be removed is logged, and left.
    /// Returns the names of those that are gone.
    ///
    /// # Cancellation
    /// Safe to drop: a removal that has begun goes on.
    pub(crate) async fn prune_networks(
        &self,
        is_chosen: impl Fn(&ConfiguredNetwork) -> bool,
    ) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for network in self.networks().await? {
            if !network.is_ours || !is_chosen(&network) {
                continue;
            }
            match self.remove_network(&network.name).await {
                Ok(()) => removed.push(network.name),
                Err(error) if error.kind() == Kind::Conflict => {}
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "a prune leaves a network");
                }
            }
        }
        Ok(removed)
    }

    async fn with_networks<T: Send + 'static>(
        &self,
        step: Step,
        name: &str,
        work: impl FnOnce(&Sandboxes) -> Result<T, crate::sandbox::Error> + Send + 'static,
    ) -> Result<T> {
        use super::error::ErrorContext as _;

        let sandboxes = self.0.sandboxes().await.at(step, name)?;
        let done = tokio::task::spawn_blocking(move || work(&sandboxes)).await;
        let done = done.map_err(|panic| Error::new(step, name, Kind::Internal, panic))?;
        done.at(step, name)
    }
}

impl Deps {
    /// Records that a network was configured or removed.
    fn tell_network(&self, action: Action, name: &str) {
        self.record(Event::new(EventKind::Network, action, name));
    }
}
