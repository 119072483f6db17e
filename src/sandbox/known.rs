//! A configured network, as shown to the user.

use std::path::PathBuf;

/// The network of containers for which none is named.
pub(crate) const DEFAULT: &str = "fnctr";

/// A network, as shown to the user.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) name: String,
    /// The file that configures the network.
    pub(crate) file: PathBuf,
    /// Its plugins, in the order of ADD.
    pub(crate) plugins: Vec<String>,
    pub(crate) subnets: Vec<String>,
    /// The whole configuration.
    pub(crate) config: serde_json::Value,
}
