//! The driver under its name in the registry of drivers.

use std::sync::Arc;
use std::time::Duration;

use super::{ContainerdDriver, Registries, Settings};
use crate::Context;
use crate::driver::{self, Driver, Error};

/// How long connecting may take if the driver is created by name, where the caller gives no deadline.
const CONNECT: Duration = Duration::from_secs(10);

/// Registers this driver under the name `containerd`, with default [`Settings`] and the credentials of this process's
/// environment ([`Registries::from_env`]). The configuration's `docker` field is the socket.
///
/// # Errors
/// [`Conflict`](driver::ErrorKind::Conflict) if the name is taken.
pub fn register() -> Result<(), Error> {
    let make: driver::DriverFunc = Arc::new(|config| {
        Box::pin(async move {
            let settings = Settings {
                registries: Registries::from_env(),
                ..Settings::default()
            };
            let driver = ContainerdDriver::connect(&Context::timeout(CONNECT), config, settings).await?;
            Ok(Arc::new(driver) as Arc<dyn Driver>)
        })
    });
    driver::register("containerd", make)
}
