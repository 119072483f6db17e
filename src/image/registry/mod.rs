//! Access to registries over HTTP: resolving tags and fetching manifests and blobs, by the OCI distribution
//! specification.
//!
//! ```text
//! a registry's name ─► hosts (hosts.toml) ─► Repository ─┬─ resolve, manifest, blob at an offset
//!                                              │         │
//!                                              ▼         ▼ 401
//!                                             http ◄─── auth ─► token      credentials: looked up when asked for
//!                                      (redirects)
//! ```
//!
//! This is the only module that uses the HTTP client. It is a custom thin client based on hyper and rustls (with ring).
//! The crate `oci-client` 0.18, which was tried first, supports neither mirrors nor descriptions of hosts, neither
//! identity tokens nor Retry-After; it reads manifests without a limit, and sends the extra headers of a host along
//! with every redirect.
//!
//! This module does not depend on containerd's store or on the order of fetches. There is no deadline for a whole
//! request, but one for each wait for the next byte.

mod answer;
mod auth;
mod challenge;
mod endpoint;
mod error;
mod header;
mod hosts;
mod hosts_toml;
mod http;
mod origin;
mod repository;
mod settings;
mod signatures;
mod tls;
mod token;
mod trust;

use std::sync::Arc;

pub(crate) use self::error::Error;
pub(crate) use self::http::Body;
use self::http::{Clients, HttpContext};
pub(crate) use self::repository::{Blob, Meaning, Repository};
pub(crate) use self::settings::RegistrySettings;
use super::Reference;
use crate::credentials::{Credential, Logins};
use crate::metrics::Metrics;

/// All registries. Their connections are shared by all users of this value.
#[derive(Debug, Clone)]
pub(crate) struct Registries {
    wire: HttpContext,
    logins: Logins,
}

impl Registries {
    /// Uses the credentials that are configured for the host of this driver.
    pub(crate) fn new(settings: RegistrySettings, logins: Logins, metrics: &Arc<Metrics>) -> Self {
        Self {
            wire: HttpContext {
                clients: Arc::new(Clients::default()),
                settings: Arc::new(settings),
                metrics: Arc::clone(metrics),
            },
            logins,
        }
    }

    /// The repository of an image. `own` are credentials only for its registry, which take precedence over the
    /// driver's.
    ///
    /// # Errors
    /// A description of the registry exists, but cannot be used.
    ///
    /// # Cancellation
    /// Waits only for reading a few small files.
    pub(crate) fn repository(
        &self,
        reference: &Reference,
        own: Option<&Credential>,
    ) -> Result<Repository, Error> {
        Repository::new(&self.wire, reference, own, &self.logins)
    }
}
