//! The driver under its name in the registry of drivers.

use std::sync::Arc;
use std::time::Duration;

use super::{DockerDriver, DockerSettings};
use crate::Context;
use crate::driver::{self, Driver, Error};

/// How long connecting may take if the driver is created by name, where the caller gives no deadline. Archives to load
/// are included.
const CONNECT: Duration = Duration::from_secs(300);

/// Registers this driver under the name `docker`, with the address and the credentials of this process's environment
/// ([`DockerSettings::from_env`]). The configuration's `docker` field is the engine's address, in the form of
/// `DOCKER_HOST`.
///
/// # Errors
/// [`Conflict`](driver::ErrorKind::Conflict) if the name is taken.
pub fn register() -> Result<(), Error> {
    let make: driver::DriverFunc = Arc::new(|config| {
        Box::pin(async move {
            let ctx = Context::timeout(CONNECT);
            let driver = DockerDriver::connect(&ctx, config, DockerSettings::from_env()).await?;
            Ok(Arc::new(driver) as Arc<dyn Driver>)
        })
    });
    driver::register("docker", make)
}
