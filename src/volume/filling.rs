//! The right to fill a volume with files of an image, which one process at a time has.

use std::fs::{self, File};
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::error::{Error, Result};
use super::what::Volume;
use crate::file_lock::FileLock;

/// Present while a volume is being filled, and after that was interrupted.
const MARK: &str = ".filling";
/// The pause before the lock is tried again. Whoever has it copies files.
const AGAIN: Duration = Duration::from_millis(20);
/// How long others may fill it.
const PATIENCE: Duration = Duration::from_secs(300);

/// The right to fill a volume. Dropping it before [`Self::done`] leaves the volume as one whose filling was interrupted.
#[derive(Debug)]
#[must_use = "it is given back when it is dropped"]
pub(crate) struct Filling<'a> {
    volume: &'a Volume,
    _lock: FileLock,
}

impl<'a> Filling<'a> {
    /// The files of a volume are from now on what its users make of them: nothing is filled in later.
    pub(crate) fn forget(volume: &Volume) {
        if let Some(dir) = volume.data.parent() {
            // Most volumes have no mark.
            drop(fs::remove_file(dir.join(MARK)));
        }
    }

    /// Waits until nobody else fills the volume. Returns the right if it has no files, or if filling it was interrupted; `None` if
    /// there is nothing to do. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn begin(volume: &'a Volume) -> Result<Option<Self>> {
        let Some(dir) = volume.data.parent() else {
            return Ok(None);
        };
        let fail = |error| Error::io(dir, error);
        let until = Instant::now() + PATIENCE;
        let lock = loop {
            match File::open(dir).and_then(FileLock::exclusive).map_err(fail)? {
                Some(lock) => break lock,
                None if Instant::now() < until => std::thread::sleep(AGAIN),
                None => return Err(Error::Busy),
            }
        };
        let files = volume.files();
        let is_empty = match fs::read_dir(&files) {
            // A directory of the host: the start says that it is missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries
                .map_err(|error| Error::io(&files, error))?
                .next()
                .is_none(),
        };
        let mark = dir.join(MARK);
        if !is_empty && !mark.exists() {
            return Ok(None);
        }
        File::create(&mark).map_err(fail)?;
        Ok(Some(Self { volume, _lock: lock }))
    }

    /// The volume is filled.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn done(self) -> Result<()> {
        let Some(dir) = self.volume.data.parent() else {
            return Ok(());
        };
        let mark = dir.join(MARK);
        fs::remove_file(&mark).map_err(|error| Error::io(&mark, error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::name::VolumeName;
    use super::super::store::VolumeStore;
    use super::super::what::NewVolume;
    use super::*;
    use crate::Context;

    #[tokio::test]
    async fn a_volume_is_filled_once_and_again_if_that_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let store = VolumeStore::new(dir.path().to_owned());
        let held = store.hold(&Context::new()).await.unwrap();
        let name = VolumeName::new("data").unwrap();
        let (volume, _) = held.ensure(&name, &NewVolume::default()).unwrap();
        let filling = Filling::begin(&volume).unwrap().unwrap();
        fs::write(volume.files().join("half"), "x").unwrap();
        // As if the process had been killed.
        drop(filling);
        let filling = Filling::begin(&volume).unwrap().unwrap();
        filling.done().unwrap();
        assert!(Filling::begin(&volume).unwrap().is_none());
        fs::remove_file(volume.files().join("half")).unwrap();
        drop(Filling::begin(&volume).unwrap().expect("it is empty again"));
        fs::write(volume.files().join("own"), "x").unwrap();
        Filling::forget(&volume);
        assert!(Filling::begin(&volume).unwrap().is_none());
        held.remove(&name).unwrap().delete();
    }
}
