//! How registries are reached, in addition to the settings in their own files.

use std::path::PathBuf;
use std::time::Duration;

/// Where registries are described, and how long to wait for them.
#[derive(Debug, Clone)]
pub(crate) struct RegistrySettings {
    /// The directory of `hosts.toml` files, one directory per registry, as containerd reads them.
    pub(crate) hosts_dir: PathBuf,
    /// Registries, as in `r.io` or `r.io:5000`, that are accessed without TLS, as this machine is by default.
    pub(crate) plain_http: Vec<String>,
    /// The longest wait for a connection.
    pub(crate) connect: Duration,
    /// The longest wait for the next byte. There is no limit for a whole transfer.
    pub(crate) stall: Duration,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            hosts_dir: "/etc/containerd/certs.d".into(),
            plain_http: Vec::new(),
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
        }
    }
}
