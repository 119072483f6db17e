//! All volumes of one instance, for readers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::name::VolumeName;
use super::what::Volume;

/// The files of a volume, in its directory.
pub(super) const DATA: &str = "_data";
/// What a volume is, in its directory.
pub(super) const ABOUT: &str = "volume.json";

/// All volumes of one instance.
#[derive(Debug, Clone)]
pub(crate) struct VolumeStore {
    dir: PathBuf,
}

impl VolumeStore {
    /// The volumes in this directory, which need not be there.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// One volume.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none of that name.
    pub(crate) fn get(&self, name: &VolumeName) -> Result<Volume> {
        let dir = self.dir.join(name.as_str());
        let path = dir.join(ABOUT);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { name: name.clone() });
            }
            text => text.map_err(|error| Error::io(&path, error))?,
        };
        let about = serde_json::from_slice(&text).map_err(|source| Error::Unreadable {
            path: path.clone(),
            source,
        })?;
        Ok(Volume {
            name: name.clone(),
            about,
            data: dir.join(DATA),
        })
    }

    /// Every volume, in the order of the names. One that cannot be read is logged, and left out.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<Volume>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| Error::io(&self.dir, error))?,
        };
        let names = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            VolumeName::new(&name).ok()
        });
        let mut volumes: Vec<_> = names
            .filter_map(|name| match self.get(&name) {
                Ok(volume) => Some(volume),
                // A directory of something else, or removed a moment ago.
                Err(Error::Missing { .. }) => None,
                Err(error) => {
                    tracing::warn!(%name, error = %crate::chain(&error), "cannot read what a volume is");
                    None
                }
            })
            .collect();
        volumes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(volumes)
    }
}
