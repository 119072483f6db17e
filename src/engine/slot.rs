//! A prepared network namespace: the slot of a pool, which a container takes and gives back.
//!
//! If an image for it is configured, a container of that image lives in the slot, for a platform that expects a process
//! there; fnctr itself needs none. The keeper makes and removes slots in the background, so no container waits for
//! that.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{host, pidfd};
use crate::ContainerId;
use crate::pool::{Lease, Pool};
use crate::sandbox::Sandbox;

/// Slots that are not used again, by the numbers of their network namespaces (namespaces(7)). Clones share the same ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Spoiled(Arc<Mutex<BTreeSet<(u64, u64)>>>);

impl Spoiled {
    pub(super) fn add(&self, network: (u64, u64)) {
        self.networks().insert(network);
    }

    /// Whether the slot is one of them. It is forgotten by that.
    pub(super) fn take(&self, slot: &Slot) -> bool {
        self.networks().remove(&slot.sandbox.numbers())
    }

    fn networks(&self) -> MutexGuard<'_, BTreeSet<(u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A prepared network namespace.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) sandbox: Sandbox,
    pub(super) resident: Option<Resident>,
    /// How many containers have used it.
    pub(super) uses: u64,
}

/// The container that lives in a slot. Not a handle to it, because a handle keeps the engine alive, and the engine owns
/// the pool.
#[derive(Debug)]
pub(super) struct Resident {
    pub(super) id: ContainerId,
    pub(super) process: OwnedFd,
    /// Its pid namespace, which distinguishes its processes from others in the slot.
    pub(super) pids: Option<(u64, u64)>,
}

impl Slot {
    /// Whether the slot can be given to a container. Takes a few system calls.
    pub(super) fn is_fit(&self) -> bool {
        let lives = |resident: &Resident| !pidfd::has_ended(&resident.process);
        self.sandbox.is_there() && self.resident.as_ref().is_none_or(lives)
    }

    /// Whether a process other than the resident's is in the slot.
    pub(super) fn is_occupied(&self, occupants: &[host::Occupant]) -> bool {
        let own = self.resident.as_ref().and_then(|resident| resident.pids);
        let network = self.sandbox.numbers();
        occupants
            .iter()
            .any(|occupant| occupant.network == network && (own.is_none() || occupant.pids != own))
    }
}

/// Takes a slot that is fit; `None` if there is none, which the pool counts.
pub(super) fn take(pool: &Pool<Slot>) -> Option<Lease<Slot>> {
    let lease = pool.take(Slot::is_fit);
    if lease.is_none() {
        tracing::warn!("the pool of network namespaces is empty; making one for this container");
    }
    lease
}
