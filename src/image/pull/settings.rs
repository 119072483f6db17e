//! The limits of pulls: how many transfers at once, and for how long.

use std::time::Duration;

use crate::image::{Logins, RegistrySettings, scratch};

/// How images are pulled.
#[derive(Debug, Clone)]
pub(crate) struct PullSettings {
    /// How registries are reached.
    pub(crate) registries: RegistrySettings,
    /// The source of credentials.
    pub(crate) logins: Logins,
    /// How many layers of one image are fetched at once.
    pub(crate) layers: usize,
    /// How many layers of all images together are fetched at once.
    pub(crate) layers_in_all: usize,
    /// How long the lease of a pull lasts; it is renewed well before its end. What a crash leaves behind is kept for
    /// this time.
    pub(crate) lease: Duration,
    /// How long the bytes that an interrupted pull has fetched are kept for the next pull.
    pub(crate) keep: Duration,
}

impl PullSettings {
    /// How old the lease of a killed pull must be for its contents to have been kept for `keep`. A lease is renewed
    /// four times while it lasts, so its process may have been alive until a quarter of that time after it was created.
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
