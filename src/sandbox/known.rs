//! Networks that are configured on this host.

use std::path::PathBuf;

/// The network of containers for which none is named.
pub(crate) const DEFAULT: &str = "fnctr";

/// A network, as shown to the user.
#[derive(Debug, Clone)]
pub(crate) struct ConfiguredNetwork {
    pub(crate) name: String,
    /// The file that configures the network.
    pub(crate) file: PathBuf,
    /// The types of its plugins, in the order in which the CNI command ADD runs them.
    pub(crate) plugins: Vec<String>,
    pub(crate) subnets: Vec<String>,
    /// The whole configuration.
    pub(crate) config: serde_json::Value,
}
