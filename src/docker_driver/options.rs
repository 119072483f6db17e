//! The driver-specific options of a container: the value of `Cookie::container_options` for this driver.

use super::docker_models::ContainerCreateBody;

/// The options of a Docker container, as the task and the configuration have made them so far. Open for changes until
/// the container is created:
///
/// ```
/// # use fnctr::{DockerOptions, driver::{Cookie, Error}};
/// # fn example(cookie: &dyn Cookie) -> Result<(), Error> {
/// cookie.change_options(|options: &mut DockerOptions| {
///     options.body.env.get_or_insert_default().push("REGION=north".into());
/// })
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DockerOptions {
    /// The body of `POST /containers/create`. The driver sets which streams are attached, and that there is no terminal.
    /// It chooses the network unless a network mode is set, and on the default network the hostname unless one is set. A
    /// container with a hostname of its own gets no prepared network: it would share that network's hostname.
    pub body: ContainerCreateBody,
}
