//! Names of containers: those that clients give, and those that are made up.

use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::{ContainerId, ContainerName};

const QUALITIES: [&str; 32] = [
    "amber", "brisk", "calm", "clever", "cosmic", "crisp", "deft", "eager", "fleet", "fond", "frosty",
    "gentle", "glad", "golden", "hardy", "keen", "lively", "lucid", "mellow", "nimble", "placid", "plucky",
    "quick", "quiet", "rapid", "serene", "silver", "steady", "sunny", "swift", "vivid", "witty",
];
const THINGS: [&str; 32] = [
    "alder", "badger", "birch", "brook", "canyon", "cedar", "comet", "coral", "crane", "delta", "falcon",
    "fjord", "geyser", "glacier", "harbor", "heron", "island", "jasper", "kestrel", "lagoon", "lynx",
    "maple", "meadow", "osprey", "otter", "pebble", "quartz", "river", "sparrow", "spruce", "tundra",
    "willow",
];

/// The name that a client gives, with or without a slash.
pub(super) fn given(name: &str) -> Result<ContainerName, Refused> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    ContainerName::new(bare).map_err(|_| {
        Refused::bad(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        ))
    })
}

/// The refusal of a name that a container has.
pub(super) fn taken(door: &Door, name: &ContainerName) -> Refused {
    let by = door.server.find(name.as_str());
    let by = by.map_or_else(|_| "?".to_owned(), |served| served.id().to_string());
    Refused::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{by}\". You have to remove (or rename) \
         that container to be able to reuse that name."
    ))
}

/// A name for a container without one. Two in a row may be the same: the caller asks again.
pub(super) fn made_up() -> Option<ContainerName> {
    let dice = ContainerId::random();
    let dice = u64::from_str_radix(dice.as_str().get(..8)?, 16).ok()?;
    let pick = |list: &[&'static str; 32], dice: u64| list.get(usize::try_from(dice % 32).ok()?).copied();
    let (quality, thing) = (pick(&QUALITIES, dice)?, pick(&THINGS, dice >> 5)?);
    ContainerName::new(format!("{quality}_{thing}_{:03x}", (dice >> 10) & 0xfff)).ok()
}
