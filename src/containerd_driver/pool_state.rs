//! The state of the pool of prepared network namespaces, for the host.

use super::ContainerdDriver;
use crate::driver::PoolState;

impl ContainerdDriver {
    /// The state of the pool of prepared network namespaces, for metrics; `None` if there is no pool.
    #[must_use]
    pub fn pool(&self) -> Option<PoolState> {
        let state = self.0.engine.pool()?;
        let counts = state.counts;
        Some(PoolState {
            target: counts.target,
            ready: counts.ready,
            leased: counts.leased,
            hits: counts.hits,
            misses: counts.misses,
            dead: counts.dead,
            networks: state.networks.into_iter().collect(),
        })
    }
}
