//! A network as it is configured, for a person to see.

use std::path::PathBuf;

/// The network of whoever names none.
pub(crate) const DEFAULT: &str = "fnctr";

/// A network as a person sees it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) name: String,
    /// Where it is configured.
    pub(crate) file: PathBuf,
    /// Its plugins, in the order of ADD.
    pub(crate) plugins: Vec<String>,
    pub(crate) subnets: Vec<String>,
    /// The whole configuration.
    pub(crate) config: serde_json::Value,
}
