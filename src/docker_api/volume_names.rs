//! The names and options of volumes, in Docker's words.

use std::collections::BTreeMap;

use super::refused::Refused;
use crate::engine::{VolumeName, VolumeOptions};

/// The name of a volume that a client gives.
///
/// # Errors
/// Status 400 if it cannot be one.
pub(super) fn name(given: &str) -> Result<VolumeName, Refused> {
    VolumeName::new(given).map_err(|why| match why {
        crate::engine::InvalidVolumeName::Characters => {
            Refused::bad(format!("create {given}: \"{given}\" {why}"))
        }
        why => Refused::bad(format!("create {given}: {why}")),
    })
}

/// The options of a volume that is to be made.
///
/// # Errors
/// Status 404 for a driver that is not there, 400 for options that are not served.
pub(super) fn options(
    name: &str,
    driver: &str,
    given: BTreeMap<String, String>,
) -> Result<VolumeOptions, Refused> {
    if !["", "local"].contains(&driver) {
        return Err(Refused::missing(format!(
            "create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found"
        )));
    }
    VolumeOptions::new(given).map_err(|why| Refused::bad(format!("create {name}: {why}")))
}
