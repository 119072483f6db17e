//! The mounts and volumes of a container, each at a place of its own.

use std::path::Path;

use fnctr_oci::Mount;

use super::lent::Lent;
use super::mounted::Mounted;
use crate::docker_api::refused::Refused;
use crate::engine::VolumeUse;

/// What a container mounts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::docker_api::containers) struct Storage {
    pub(in crate::docker_api::containers) mounts: Vec<Mount>,
    pub(in crate::docker_api::containers) volumes: Vec<VolumeUse>,
}

impl Storage {
    /// Adds what a client asks for.
    ///
    /// # Errors
    /// Status 400 if something is mounted there already.
    pub(super) fn add(&mut self, mounted: Mounted) -> Result<(), Refused> {
        let destination = mounted.destination();
        if self.covers(destination) {
            let destination = destination.display();
            return Err(Refused::bad(format!("Duplicate mount point: {destination}")));
        }
        self.push(mounted);
        Ok(())
    }

    /// Adds what another container has, where nothing is mounted yet.
    pub(super) fn add_missing(&mut self, lent: &Lent) {
        for mounted in lent.mounted() {
            if !self.covers(mounted.destination()) {
                self.push(mounted);
            }
        }
    }

    /// Adds a volume, where nothing is mounted yet.
    pub(super) fn add_volume(&mut self, used: VolumeUse) {
        if !self.covers(&used.destination) {
            self.volumes.push(used);
        }
    }

    fn push(&mut self, mounted: Mounted) {
        match mounted {
            Mounted::Mount(mount) => self.mounts.push(mount),
            Mounted::Volume(used) => self.volumes.push(used),
        }
    }

    /// Whether something is mounted at this very place, however its path is written.
    fn covers(&self, place: &Path) -> bool {
        let mounts = self.mounts.iter().map(|mount| match mount {
            Mount::Bind { destination, .. } | Mount::Tmpfs { destination, .. } => destination,
        });
        let volumes = self.volumes.iter().map(|used| &used.destination);
        mounts
            .chain(volumes)
            .any(|destination| destination.components().eq(place.components()))
    }
}
