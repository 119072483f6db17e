//! The driver-specific options of a container: the value of `Cookie::container_options` for this driver.

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
    /// The configuration of the container. The engine fills in its cgroup, its init and the network namespace that it
    /// joins.
    pub config: ContainerConfig,
    /// The container's network.
    pub network: Network,
    /// Names in `/etc/hosts` in addition to those of the network, with their addresses. A container in another
    /// container's network has that container's names, and no more.
    pub hosts: Vec<(String, IpAddr)>,
    /// Labels of the containerd record.
    pub labels: BTreeMap<String, String>,
    /// Whether an init runs as PID 1, which reaps processes and forwards signals.
    pub init: bool,
}
