//! What a container takes from others, as `HostConfig.VolumesFrom` says: `CONTAINER[:ro|:rw]`.

use std::sync::Arc;

use fnctr_oci::Mount;

use super::mounted::Mounted;
use crate::docker_api::refused::Refused;
use crate::engine::{Plan, VolumeUse};

/// An entry of `VolumesFrom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::docker_api::containers) struct Lender<'a> {
    /// The container, as the client names it.
    pub(in crate::docker_api::containers) container: &'a str,
    readonly: bool,
}

impl<'a> Lender<'a> {
    /// Reads an entry.
    ///
    /// # Errors
    /// Status 400 if it names no container, or a mode that Docker does not have.
    pub(in crate::docker_api::containers) fn read(entry: &'a str) -> Result<Self, Refused> {
        let (container, mode) = entry.split_once(':').unwrap_or((entry, "rw"));
        if container.is_empty() {
            return Err(Refused::bad(format!(
                "invalid volumes-from specification: '{entry}'"
            )));
        }
        match mode {
            "ro" | "rw" => Ok(Self {
                container,
                readonly: mode == "ro",
            }),
            _ => Err(Refused::bad(format!("invalid mode: {mode}"))),
        }
    }

    /// What that container lends.
    pub(in crate::docker_api::containers) fn lends(self, plan: Arc<Plan>) -> Lent {
        Lent {
            plan,
            readonly: self.readonly,
        }
    }
}

/// A container that lends its volumes and the host's directories that it mounts.
#[derive(Debug, Clone)]
pub(in crate::docker_api::containers) struct Lent {
    plan: Arc<Plan>,
    readonly: bool,
}

impl Lent {
    /// Everything that it has. What it may only read itself, others may only read.
    pub(super) fn mounted(&self) -> Vec<Mounted> {
        let volumes = self.plan.volumes.iter().map(|used| {
            Mounted::Volume(VolumeUse {
                readonly: used.readonly || self.readonly,
                // It is the lender's.
                is_filled: false,
                ..used.clone()
            })
        });
        // A volume is among the mounts of a container that was made, too.
        let is_volume = |place: &std::path::Path| {
            let mut volumes = self.plan.volumes.iter();
            volumes.any(|used| used.destination.components().eq(place.components()))
        };
        let binds = self.plan.config.mounts.iter().filter_map(|mount| match mount {
            Mount::Bind {
                source,
                destination,
                readonly,
            } if !is_volume(destination) => Some(Mounted::Mount(Mount::Bind {
                source: source.clone(),
                destination: destination.clone(),
                readonly: *readonly || self.readonly,
            })),
            Mount::Bind { .. } | Mount::Tmpfs { .. } => None,
        });
        volumes.chain(binds).collect()
    }
}
