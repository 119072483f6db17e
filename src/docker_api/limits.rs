//! How much of the server clients may take up, so that none of them takes all.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

/// What clients may take up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many connections there may be at once; more wait until one ends.
    pub(crate) connections: usize,
    /// How long a connection may wait for its next request.
    pub(super) idle: Duration,
    /// How many headers a request may have.
    pub(super) headers: usize,
    /// How many bytes of a head are read, and of a body at once.
    pub(super) buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: connections(),
            // Clients keep connections, and do not expect that one ends within ten minutes.
            idle: Duration::from_secs(1800),
            headers: 100,
            buffer: 64 << 10,
        }
    }
}

/// Half of the descriptors that this process may open, at two for each connection, are the connections' share.
fn connections() -> usize {
    const FEWEST: u64 = 64;
    const MOST: u64 = 1 << 16;

    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((FEWEST, FEWEST));
    usize::try_from((soft / 4).clamp(FEWEST, MOST)).unwrap_or_default()
}
