//! The state of a driver's pool of prepared network namespaces, for the host.

use std::collections::BTreeMap;

/// The state of the pool of prepared network namespaces at one moment. The counters start with the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolState {
    /// How many namespaces the pool should have, including those in use.
    pub target: usize,
    /// How many namespaces are available now.
    pub ready: usize,
    /// How many namespaces containers use.
    pub leased: usize,
    /// How often a container got a prepared namespace.
    pub hits: u64,
    /// How often none was available, and a new one was created for the container.
    pub misses: u64,
    /// How many namespaces were found dead, and replaced.
    pub dead: u64,
    /// How many namespaces are available on each network.
    pub networks: BTreeMap<String, usize>,
}
