//! The volumes of a container, as its plan and its record state them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::label;
use crate::containerd::Record;
use crate::volume::{NewVolume, VolumeName};

/// The extension of a record with its volumes; none for a container that uses none.
const EXTENSION: &str = "io.fnctr.volumes";

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VolumeUse {
    /// The volume.
    pub(crate) name: VolumeName,
    /// Where the container has it: an absolute path.
    pub(crate) destination: PathBuf,
    /// Whether the container may only read it.
    #[serde(default)]
    pub(crate) readonly: bool,
    /// Whether a volume without files gets those that the image has at the destination.
    #[serde(default)]
    pub(crate) is_filled: bool,
    /// What the volume has if it is made for this container.
    #[serde(default)]
    pub(crate) made_with: NewVolume,
}

impl VolumeUse {
    /// A volume with a name, as it is without further options.
    pub(crate) fn new(name: VolumeName, destination: impl Into<PathBuf>) -> Self {
        Self {
            name,
            destination: destination.into(),
            readonly: false,
            is_filled: true,
            made_with: NewVolume::default(),
        }
    }

    /// A volume that nobody names.
    pub(crate) fn anonymous(destination: impl Into<PathBuf>) -> Self {
        let made_with = NewVolume {
            is_anonymous: true,
            ..NewVolume::default()
        };
        Self {
            made_with,
            ..Self::new(VolumeName::random(), destination)
        }
    }

    /// Whether nobody has named it: it may go with the last container that uses it.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.made_with.is_anonymous
    }
}

/// The label of a record with volumes.
pub(super) fn label(volumes: &[VolumeUse]) -> Option<(String, String)> {
    let count = Some(volumes.len()).filter(|count| *count > 0)?;
    Some((label::VOLUMES.to_owned(), count.to_string()))
}

/// The extension of a record with volumes.
pub(super) fn extension(volumes: &[VolumeUse]) -> serde_json::Result<Option<(String, Vec<u8>)>> {
    if volumes.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_vec(volumes)?;
    Ok(Some((EXTENSION.to_owned(), text)))
}

/// The volumes of a container.
///
/// # Errors
/// Another version of fnctr has written them.
pub(super) fn of_record(record: &Record) -> serde_json::Result<Vec<VolumeUse>> {
    match record.extensions.get(EXTENSION) {
        None => Ok(Vec::new()),
        Some(text) => serde_json::from_slice(text),
    }
}
