//! The volumes that a container or its image declares, each of which gets a volume without a name.

use std::path::Path;

use super::storage::Storage;
use crate::docker_api::refused::Refused;
use crate::engine::{Plan, VolumeUse};

/// The file systems that every container has for itself: an image that declares a place in one means the same place there.
const OWN: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The places that the body and the image declare, each once.
pub(in crate::docker_api::containers) fn declared_by_all(body: &[String], image: &[String]) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    let is_own = |place: &&String| OWN.iter().any(|own| Path::new(place).starts_with(own));
    let of_image = image.iter().filter(|place| !is_own(place));
    for place in body.iter().chain(of_image) {
        if !places.contains(place) {
            places.push(place.clone());
        }
    }
    places
}

/// Adds a volume at each place where nothing is mounted.
///
/// # Errors
/// Status 400 for a place that is no absolute path, or the root.
pub(in crate::docker_api::containers) fn add_declared(
    plan: &mut Plan,
    places: &[String],
) -> Result<(), Refused> {
    let mut storage = Storage {
        mounts: std::mem::take(&mut plan.config.mounts),
        volumes: std::mem::take(&mut plan.volumes),
    };
    for place in places {
        let path = Path::new(place);
        if !path.is_absolute() {
            return Err(Refused::bad(format!(
                "Volumes: invalid mount path: '{place}' mount path must be absolute"
            )));
        }
        if path.components().count() == 1 {
            return Err(Refused::bad(
                "Volumes: invalid specification: destination can't be '/'",
            ));
        }
        storage.add_volume(VolumeUse::anonymous(path));
    }
    Storage {
        mounts: plan.config.mounts,
        volumes: plan.volumes,
    } = storage;
    Ok(())
}
