//! The driver-specific options of a container: what `Cookie::container_options` is about here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fnctr_oci::ContainerConfig;

use crate::engine::Network;

/// The options of a containerd container, as the task and the configuration have made them so far. Open for changes
/// until the container is created:
///
/// ```
/// # use fnctr::{ContainerOptions, driver::{Cookie, Error}};
/// # fn example(cookie: &dyn Cookie) -> Result<(), Error> {
/// cookie.change_options(|options: &mut ContainerOptions| {
///     options.config.env.push(("REGION".into(), "north".into()));
/// })
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerOptions {
    /// What the process gets. Where its cgroup goes, which init runs and which network namespace it joins are the engine's to
    /// fill in.
    pub config: ContainerConfig,
    /// The network that it has.
    pub network: Network,
    /// Names in `/etc/hosts` beside those that the network gives it, and their addresses. A container in another's network
    /// has that one's, and no more.
    pub hosts: Vec<(String, IpAddr)>,
    /// Labels of the containerd record.
    pub labels: BTreeMap<String, String>,
    /// Whether an init is PID 1, which reaps and forwards signals.
    pub init: bool,
}
