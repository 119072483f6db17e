//! One thing that a container mounts.

use std::path::Path;

use fnctr_oci::Mount;

use crate::engine::VolumeUse;

/// One thing that is mounted.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mounted {
    Mount(Mount),
    Volume(VolumeUse),
}

impl Mounted {
    /// Where it is mounted.
    pub(super) fn destination(&self) -> &Path {
        match self {
            Self::Mount(Mount::Bind { destination, .. } | Mount::Tmpfs { destination, .. }) => destination,
            Self::Volume(used) => &used.destination,
        }
    }
}
