//! How much at once, and for how long.

use std::time::Duration;

use crate::image::{Logins, RegistrySettings, scratch};

/// How images are pulled.
#[derive(Debug, Clone)]
pub(crate) struct PullSettings {
    /// How registries are reached.
    pub(crate) registries: RegistrySettings,
    /// Where credentials come from.
    pub(crate) logins: Logins,
    /// How many layers of one image are fetched at once.
    pub(crate) layers: usize,
    /// How many layers of all images are.
    pub(crate) layers_in_all: usize,
    /// How long the lease of a pull lasts; it is renewed well before. What a crash leaves is there for as long.
    pub(crate) lease: Duration,
    /// How long what an interrupted pull has fetched is kept for the next one to go on with.
    pub(crate) keep: Duration,
}

impl PullSettings {
    /// How old the lease of a killed pull must be for what it holds to have been kept for `keep`: a lease is renewed four
    /// times while it lasts, so the process may have lived on for a quarter of that.
    pub(crate) fn kept(&self) -> Duration {
        if self.keep.is_zero() {
            return Duration::ZERO;
        }
        self.keep.saturating_add(self.lease / scratch::RENEWALS)
    }
}

impl Default for PullSettings {
    fn default() -> Self {
        Self {
            registries: RegistrySettings::default(),
            logins: Logins::default(),
            layers: 3,
            layers_in_all: 12,
            lease: Duration::from_secs(3600),
            keep: Duration::from_secs(600),
        }
    }
}
