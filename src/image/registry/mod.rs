//! Registries over HTTP: what a tag stands for, manifests and blobs, by the OCI distribution specification.
//!
//! ```text
//! a registry's name ─► hosts (hosts.toml) ─► Repository ─┬─ resolve, manifest, blob at an offset
//!                                              │         │
//!                                              ▼         ▼ 401
//!                                             http ◄─── auth ─► token      credentials: looked up when asked for
//!                                      (redirects)
//! ```
//!
//! The only room that may name the HTTP client. It is a client of our own, thin above hyper and rustls (with ring), because
//! `oci-client` 0.18, which was tried first, has no mirrors and no description of hosts, reads manifests without a bound,
//! knows no identity tokens and no Retry-After, and sends a host's extra headers along with every redirect.
//!
//! Nothing here knows containerd's store or in what order things are fetched. No request has a deadline of its own for the
//! whole; each wait for the next byte has.

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
use self::http::{Clients, Wire};
pub(crate) use self::repository::{Blob, Meaning, Repository};
pub(crate) use self::settings::RegistrySettings;
use super::Reference;
use super::credentials::{Credential, Logins};

/// Every registry there is. Connections are shared by all that goes through it.
#[derive(Debug, Clone)]
pub(crate) struct Registries {
    wire: Wire,
    logins: Logins,
}

impl Registries {
    /// With the credentials that the host of this driver has.
    pub(crate) fn new(settings: RegistrySettings, logins: Logins) -> Self {
        Self {
            wire: Wire {
                clients: Arc::new(Clients::default()),
                settings: Arc::new(settings),
            },
            logins,
        }
    }

    /// The repository of an image. `own` are credentials for its registry alone, which come before the driver's.
    ///
    /// # Errors
    /// A description of the registry that is there and cannot be used.
    ///
    /// # Cancellation
    /// Does not wait on anything but a few small files.
    pub(crate) fn repository(
        &self,
        reference: &Reference,
        own: Option<&Credential>,
    ) -> Result<Repository, Error> {
        Repository::new(&self.wire, reference, own, &self.logins)
    }
}
