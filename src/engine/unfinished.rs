//! Notes about removals that failed, for example because containerd was down or a device was busy. The next start
//! continues them.
//!
//! A note is a file with the name of the container; its content is the attempt that made the container. It lies beside
//! the directories of the containers' streams. So it does not survive a reboot, and it never refers to a later
//! container of the same name.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{Error, Kind, Result, Step};
use super::{Deps, adopt, find, record};
use crate::{ContainerId, Context};

/// No container has this name: names begin with a letter or a digit.
const DIR: &str = ".unfinished";

impl Deps {
    fn notes(&self) -> PathBuf {
        let namespace = self.config.namespace.as_str();
        self.config.run_dir.join(namespace).join(DIR)
    }

    /// Notes that the container of this attempt is to be removed, in case this process ends first.
    ///
    /// # Errors
    /// The file of the note cannot be written.
    pub(super) fn note(&self, id: &ContainerId, attempt: &str) -> io::Result<()> {
        let dir = self.notes();
        super::host::make_private(&dir).and_then(|()| fs::write(dir.join(id.as_str()), attempt))
    }

    /// The same after the removal has failed; also logs it.
    pub(super) fn note_unfinished(&self, id: &ContainerId, attempt: &str) {
        match self.note(id, attempt) {
            Ok(()) => tracing::warn!(%id, "the next start removes the remains of the container"),
            Err(error) => {
                tracing::error!(%id, %error, "cannot note the remains of the container for the next start")
            }
        }
    }

    /// Removes the note, because nothing of the container is left.
    pub(super) fn forget_unfinished(&self, id: &ContainerId, attempt: &str) {
        let (dir, note) = (self.notes(), self.notes().join(id.as_str()));
        // There is almost never a note.
        if fs::read_to_string(&note).is_ok_and(|noted| noted == attempt) && fs::remove_file(note).is_ok() {
            // Fails if there are other notes.
            drop(fs::remove_dir(dir));
        }
    }
}

/// The containers whose removal was noted and is not finished.
pub(super) fn noted(deps: &Deps) -> Vec<ContainerId> {
    let notes = fs::read_dir(deps.notes()).into_iter().flatten().flatten();
    let names = notes.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| ContainerId::new(&name).ok()).collect()
}

/// Starts to continue the removals that earlier processes have noted, in the background.
pub(super) fn resume(deps: &Arc<Deps>) {
    let ids = noted(deps);
    if ids.is_empty() {
        return;
    }
    let this = Arc::clone(deps);
    // Not cut short by the engine's end: a command that ends at once, as most do, waits for this at its close.
    deps.recover(async move {
        for id in ids {
            if let Err(error) = finish(&this, &id).await {
                tracing::warn!(%id, error = %crate::chain(&error), "cannot remove the remains of a container; the next start tries again");
            }
        }
    });
}

/// Continues the removal of one container.
pub(super) async fn finish(deps: &Arc<Deps>, id: &ContainerId) -> Result<()> {
    let attempt = match fs::read_to_string(deps.notes().join(id.as_str())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| Error::new(Step::Close, id, Kind::Internal, error))?,
    };
    let ctx = Context::timeout(deps.config.close_grace);
    let found = match find::get(deps, &ctx, id).await {
        Err(error) if error.kind() == Kind::NotFound => None,
        found => Some(found?).filter(|found| record::attempt_of(found) == attempt),
    };
    if let Some(found) = found {
        adopt::adopt_record(deps, &ctx, &found)
            .await?
            .remove_here()
            .await?;
        tracing::info!(%id, "removed the remains of a container");
    }
    deps.forget_unfinished(id, &attempt);
    Ok(())
}
