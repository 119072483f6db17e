//! What a sandbox is to be attached to.

use super::PortMapping;

/// What a sandbox is to be attached to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NetworkRequest {
    /// The networks to choose from; the least used one is taken. Empty selects the default network.
    pub(crate) networks: Vec<String>,
    /// Ports to publish.
    pub(crate) ports: Vec<PortMapping>,
}
