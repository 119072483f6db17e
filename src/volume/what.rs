//! What is known of a volume.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::name::VolumeName;
use super::options::VolumeOptions;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) name: VolumeName,
    pub(crate) about: About,
    /// The volume's own directory for files.
    pub(crate) data: PathBuf,
}

/// What is known of a volume besides its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) created_at: SystemTime,
    #[serde(flatten)]
    pub(crate) made_with: NewVolume,
}

/// What a volume is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NewVolume {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: VolumeOptions,
    /// Whether nobody has given it a name.
    pub(crate) is_anonymous: bool,
}

impl Volume {
    /// The directory that has its files.
    pub(crate) fn files(&self) -> PathBuf {
        let device = self.about.made_with.options.device();
        device.unwrap_or_else(|| self.data.clone())
    }

    /// The room that its own files take, in bytes; those in another directory of the host are not counted. Blocks.
    pub(crate) fn size(&self) -> u64 {
        let (mut size, mut left) = (0_u64, vec![self.data.clone()]);
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                // A container may be changing them.
                let Ok(found) = entry.metadata() else { continue };
                size = size.saturating_add(found.blocks().saturating_mul(512));
                if found.is_dir() {
                    left.push(entry.path());
                }
            }
        }
        size
    }
}
