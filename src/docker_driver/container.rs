//! A container that exists, and the duty to remove it.
//!
//! Whoever drops the last handle without having removed the container causes its removal in the background, so nothing
//! of a cookie that is dropped without a close stays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::daemon::{Daemon, Failed};
use super::networks::Place;
use super::removal::insist;
use super::slot::Slot;
use crate::pool::Lease;

/// A container, and the duty to remove it with the network that was set aside for it.
#[derive(Debug)]
pub(super) struct Container {
    duty: Arc<Duty>,
}

/// A container as those see it who watch it, without the duty.
#[derive(Debug, Clone)]
pub(super) struct Watched(Arc<Duty>);

#[derive(Debug)]
struct Duty {
    id: String,
    daemon: Daemon,
    tracker: TaskTracker,
    runtime: Handle,
    grace: Duration,
    network: Mutex<Network>,
    is_being_removed: AtomicBool,
    is_removed: AtomicBool,
}

/// What a container has of this driver's networks, and gives back when it is removed.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// A prepared network.
    pub(super) lease: Option<Lease<Slot>>,
    /// A place on one of the configured ones.
    pub(super) place: Option<Place>,
}

impl Network {
    /// Gives everything back. Returns a slot of a pool that has ended, for the caller to remove.
    pub(super) fn give_back(&mut self) -> Option<Slot> {
        self.place = None;
        self.lease.take().and_then(Lease::give_back)
    }
}

impl Container {
    /// Takes over the duty for a container that was just created. Must be called within a runtime.
    pub(super) fn new(
        id: String,
        daemon: &Daemon,
        network: Network,
        tracker: &TaskTracker,
        grace: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            duty: Arc::new(Duty {
                id,
                daemon: daemon.clone(),
                tracker: tracker.clone(),
                runtime: Handle::current(),
                grace,
                network: Mutex::new(network),
                is_being_removed: AtomicBool::new(false),
                is_removed: AtomicBool::new(false),
            }),
        })
    }

    /// The engine's id.
    pub(super) fn id(&self) -> &str {
        &self.duty.id
    }

    pub(super) fn daemon(&self) -> &Daemon {
        &self.duty.daemon
    }

    /// The container, for a task that may outlive its owner.
    pub(super) fn watched(&self) -> Watched {
        Watched(Arc::clone(&self.duty))
    }

    /// Ends the container if it runs, and removes it. A container that is gone already is a success.
    ///
    /// # Cancellation
    /// Not safe to drop half-way; runs on a tracked task.
    pub(super) async fn remove(&self) -> Result<(), Failed> {
        self.duty.remove().await
    }
}

impl Watched {
    /// The engine's id.
    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    pub(super) fn daemon(&self) -> &Daemon {
        &self.0.daemon
    }

    /// Whether a removal has begun.
    pub(super) fn is_being_removed(&self) -> bool {
        self.0.is_being_removed.load(Ordering::Acquire)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.duty.is_removed.load(Ordering::Acquire) {
            return;
        }
        let duty = Arc::clone(&self.duty);
        tracing::warn!(
            id = duty.id,
            "a container was dropped before it was removed; removing it in the background"
        );
        let (tracker, runtime) = (duty.tracker.clone(), duty.runtime.clone());
        let work = async move {
            if let Err(failed) = duty.remove().await {
                let error = crate::chain(&failed);
                tracing::error!(id = duty.id, error, "cannot remove a container that was dropped");
            }
        };
        drop(tracker.spawn_on(work, &runtime));
    }
}

impl Duty {
    async fn remove(&self) -> Result<(), Failed> {
        if self.is_removed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.is_being_removed.store(true, Ordering::Release);
        insist(&self.daemon, &self.id, self.grace).await?;
        self.is_removed.store(true, Ordering::Release);
        let slot = self
            .network
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .give_back();
        if let Some(slot) = slot {
            insist(&self.daemon, slot.id(), self.grace).await?;
        }
        Ok(())
    }
}
