//! A sandbox that has been made.

use std::path::PathBuf;
use std::time::Duration;

use super::cni::{Address, Dns};
use super::netns::{self, Mark};

/// A sandbox that has been made.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    /// The name of the sandbox.
    pub(crate) id: String,
    /// The path at which the namespace is pinned.
    pub(crate) path: PathBuf,
    pub(super) mark: Mark,
    /// The network that it is attached to.
    pub(crate) network: String,
    /// Its addresses.
    pub(crate) addresses: Vec<Address>,
    /// The DNS settings of the network.
    pub(crate) dns: Dns,
    /// How long each plugin took, in the order in which they ran.
    pub(crate) taken: Vec<(String, Duration)>,
}

impl Sandbox {
    /// The device and inode number that identify the namespace (namespaces(7)).
    pub(crate) fn numbers(&self) -> (u64, u64) {
        self.mark.numbers()
    }

    /// Whether the namespace is still pinned. Takes microseconds.
    pub(crate) fn is_there(&self) -> bool {
        netns::is_there(&self.path, self.mark)
    }
}
