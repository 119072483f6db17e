//! How registries are reached, beyond what their own files say.

use std::path::PathBuf;
use std::time::Duration;

/// Where registries are described, and how patient to be with them.
#[derive(Debug, Clone)]
pub(crate) struct RegistrySettings {
    /// The directory of `hosts.toml` files, one directory per registry, as containerd reads them.
    pub(crate) hosts_dir: PathBuf,
    /// Registries, as in `r.io` or `r.io:5000`, that are asked without TLS. This machine is anyway.
    pub(crate) plain_http: Vec<String>,
    /// Longest wait for a connection.
    pub(crate) connect: Duration,
    /// Longest wait for the next byte. There is no limit to the whole.
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
