//! The right to change volumes.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Error, Result};
use super::name::VolumeName;
use super::store::{ABOUT, DATA, VolumeStore};
use super::what::{About, NewVolume, Volume};
use crate::file_lock::FileLock;
use crate::ids::unique;
use crate::pauses::Pauses;
use crate::{Context, clock};

/// What the name of a volume that is being made, or removed, begins with.
const NEW: &str = ".new-";
const OLD: &str = ".old-";

/// For the host's root alone.
const CLOSED: u32 = 0o700;
/// How long others may hold the lock: each for a few system calls and one look at containerd's records.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first pause between two tries to take the lock, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// The right to change volumes, and to rely on what they are. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "it is given back when it is dropped"]
pub(crate) struct Held {
    store: VolumeStore,
    _lock: FileLock,
}

impl VolumeStore {
    /// Waits for the right to change volumes, and to rely on what they are.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process holds it for a minute.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn hold(&self, ctx: &Context) -> Result<Held> {
        let mut how = DirBuilder::new();
        // A container's root may have put programs there that give their callers its rights: no user of the host reaches them.
        let made = how.recursive(true).mode(CLOSED).create(self.dir());
        let made = made.and_then(|()| fs::set_permissions(self.dir(), fs::Permissions::from_mode(CLOSED)));
        made.map_err(|error| Error::io(self.dir(), error))?;
        let take = async {
            let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
            loop {
                match File::open(self.dir()).and_then(FileLock::exclusive) {
                    Ok(Some(lock)) => return Ok(lock),
                    Ok(None) => pauses.wait().await,
                    Err(error) => return Err(Error::io(self.dir(), error)),
                }
            }
        };
        let taken = ctx.run(tokio::time::timeout(PATIENCE, take)).await?;
        Ok(Held {
            store: self.clone(),
            _lock: taken.map_err(|_| Error::Busy)??,
        })
    }
}

impl Held {
    /// The volume of that name, which is made if there is none. Returns whether it was made. One that is there stays as
    /// it is.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn ensure(&self, name: &VolumeName, new: &NewVolume) -> Result<(Volume, bool)> {
        match self.store.get(name) {
            Err(Error::Missing { .. }) => {}
            found => return found.map(|volume| (volume, false)),
        }
        self.remove_left();
        let about = About {
            created_at: clock::now(),
            made_with: new.clone(),
        };
        let dir = self.store.dir();
        let (made, place) = (dir.join(format!("{NEW}{name}")), dir.join(name.as_str()));
        if let Err(error) = make(&made, &place, &about) {
            // What is left is removed with the next change.
            drop(fs::remove_dir_all(&made));
            return Err(Error::io(&place, error));
        }
        self.store.get(name).map(|volume| (volume, true))
    }

    /// Takes a volume away. The caller knows that no container uses it. Its files are there until [`Gone::delete`], which needs
    /// no right.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none of that name.
    pub(crate) fn remove(&self, name: &VolumeName) -> Result<Gone> {
        let dir = self.store.dir().join(name.as_str());
        let missing = || Error::Missing { name: name.clone() };
        let opened = match File::open(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            opened => opened.map_err(|error| Error::io(&dir, error))?,
        };
        // The lock tells others that somebody is at work there.
        let lock = FileLock::exclusive(opened).map_err(|error| Error::io(&dir, error))?;
        let lock = lock.ok_or(Error::Busy)?;
        let gone = self.store.dir().join(format!("{OLD}{}", unique()));
        fs::rename(&dir, &gone).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => missing(),
            _ => Error::io(&dir, error),
        })?;
        Ok(Gone {
            dir: gone,
            _lock: lock,
        })
    }

    /// Removes what killed processes have left.
    fn remove_left(&self) {
        let entries = fs::read_dir(self.store.dir()).into_iter().flatten().flatten();
        let left = entries.filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(NEW) || name.starts_with(OLD)
        });
        for entry in left {
            let path = entry.path();
            // A process that lives is at work there.
            let Ok(Some(_free)) = File::open(&path).and_then(FileLock::exclusive) else {
                continue;
            };
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove what is left of a volume");
            }
        }
    }
}

/// A volume that was taken away, with its files.
#[derive(Debug)]
#[must_use = "its files are there until they are deleted"]
pub(crate) struct Gone {
    dir: PathBuf,
    _lock: FileLock,
}

impl Gone {
    /// Deletes the files; those in another directory of the host stay. What cannot be deleted is logged, and tried again by the
    /// next who makes or removes a volume. Blocks.
    pub(crate) fn delete(self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "cannot delete the files of a removed volume; trying again later");
        }
    }
}

/// Makes a volume under another name first, so that it is there as a whole or not at all.
fn make(made: &Path, place: &Path, about: &About) -> io::Result<()> {
    let make_dir = |dir: &Path, mode| DirBuilder::new().mode(mode).create(dir);
    make_dir(made, CLOSED)?;
    let files = made.join(DATA);
    make_dir(&files, 0o755)?;
    // The process's umask may have taken rights away.
    fs::set_permissions(&files, fs::Permissions::from_mode(0o755))?;
    let mut file = File::create(made.join(ABOUT))?;
    file.write_all(&serde_json::to_vec(about)?)?;
    file.sync_all()?;
    fs::rename(made, place)?;
    match place.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn name(text: &str) -> VolumeName {
        VolumeName::new(text).unwrap()
    }

    fn new() -> NewVolume {
        NewVolume {
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            ..NewVolume::default()
        }
    }

    #[tokio::test]
    async fn a_volume_is_there_until_it_is_removed() {
        let (dir, ctx) = (tempfile::tempdir().unwrap(), Context::new());
        let store = VolumeStore::new(dir.path().join("v"));
        assert!(store.list().unwrap().is_empty());
        let held = store.hold(&ctx).await.unwrap();
        let (made, is_new) = held.ensure(&name("data"), &new()).unwrap();
        assert!(is_new && made.files().is_dir());
        assert_eq!(made.about.made_with, new());
        fs::write(made.files().join("f"), "x").unwrap();
        let (again, is_new) = held.ensure(&name("data"), &NewVolume::default()).unwrap();
        assert_eq!((again, is_new), (made.clone(), false));
        assert_eq!(store.list().unwrap(), [made]);
        held.remove(&name("data")).unwrap().delete();
        assert!(matches!(held.remove(&name("data")), Err(Error::Missing { .. })));
        drop(held);
        let left: Vec<_> = fs::read_dir(dir.path().join("v")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn what_a_killed_process_has_left_is_no_volume_and_goes() {
        let (dir, ctx) = (tempfile::tempdir().unwrap(), Context::new());
        let store = VolumeStore::new(dir.path().to_owned());
        for left in [".new-a", ".old-b"] {
            fs::create_dir_all(dir.path().join(left).join(DATA)).unwrap();
        }
        assert!(store.list().unwrap().is_empty());
        let held = store.hold(&ctx).await.unwrap();
        drop(held.ensure(&name("data"), &new()).unwrap());
        assert!(!dir.path().join(".new-a").exists() && !dir.path().join(".old-b").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_changes_volumes() {
        let (dir, ctx) = (tempfile::tempdir().unwrap(), Context::new());
        let store = VolumeStore::new(dir.path().to_owned());
        let held = store.hold(&ctx).await.unwrap();
        assert!(matches!(store.hold(&ctx).await, Err(Error::Busy)));
        drop(held);
        drop(store.hold(&ctx).await.unwrap());
    }
}
