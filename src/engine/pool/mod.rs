//! The pool of prepared network namespaces: the tasks that fill and maintain it, and its state for monitoring.

mod keeper;
mod making;

use std::collections::BTreeSet;

pub(super) use self::keeper::start;
pub(super) use self::making::discard_late;
use crate::metrics::PoolCounts;

/// The state of a pool, for monitoring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolState {
    pub(crate) counts: PoolCounts,
    /// How many slots are ready on each network.
    pub(crate) networks: Vec<(String, usize)>,
}

impl super::Engine {
    /// The pool's state; `None` if there is no pool.
    pub(crate) fn pool(&self) -> Option<PoolState> {
        let pool = self.0.networks.pool.as_ref()?;
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
