//! The pool of prepared network namespaces: what it shall be, and how a slot is taken and given back.
//!
//! A slot is a sandbox with its network attached. Where an image for it is configured, a container of that image lives in it,
//! for whoever expects a process there; nothing of ours needs one. What fills the pool and looks after it is the keeper, off
//! every container's path.

mod keeper;
mod slot;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) use self::keeper::start;
pub(super) use self::slot::Slot;
use self::slot::discard;
use super::Deps;
use super::plan::Plan;
use crate::sandbox::pool::{Bounds, Counts, Lease, Pool};

/// What the pool shall be.
#[derive(Debug, Clone)]
pub(crate) struct PoolConfig {
    /// The fewest and the most slots.
    pub(crate) bounds: Bounds,
    /// Over which networks they are spread; none is the default network.
    pub(crate) networks: Vec<String>,
    /// A slot serves one container.
    pub(crate) once: bool,
    /// The container that lives in each slot, if one shall; its id and its network are filled in.
    pub(crate) holder: Option<Plan>,
}

/// Takes a slot that is fit; `None` if there is none, which is counted.
pub(super) fn take(pool: &Pool<Slot>) -> Option<Lease<Slot>> {
    let lease = pool.take(Slot::is_fit);
    if lease.is_none() {
        tracing::warn!("the pool of network namespaces is empty; making one for this container");
    }
    lease
}

/// Gives a slot back whose container is gone.
pub(super) async fn give_back(deps: Arc<Deps>, lease: Lease<Slot>) {
    if let Some(slot) = lease.give_back() {
        // The pool has ended before.
        drop(discard(&deps, slot).await);
    }
}

/// The state of a pool, for whoever watches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolState {
    pub(crate) counts: Counts,
    /// How many are ready on each network.
    pub(crate) networks: Vec<(String, usize)>,
}

impl super::Engine {
    /// The pool's state; `None` if there is no pool.
    pub(crate) fn pool(&self) -> Option<PoolState> {
        let pool = self.0.pool.as_ref()?;
        let names: BTreeSet<String> = match self.0.config.pool.as_ref().map(|config| &config.networks) {
            Some(networks) if !networks.is_empty() => networks.iter().cloned().collect(),
            _ => BTreeSet::from([crate::sandbox::DEFAULT.to_owned()]),
        };
        let ready = |name: &String| pool.count_ready(|slot| slot.sandbox.network == *name);
        Some(PoolState {
            counts: pool.counts(),
            networks: names
                .into_iter()
                .map(|name| (name.clone(), ready(&name)))
                .collect(),
        })
    }
}
