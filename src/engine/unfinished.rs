//! Notes about removals that are under way, or have failed, for example because containerd was down or a device was
//! busy. The next start continues those that no process is at.
//!
//! A note is a file with the id of the container. Its first line is the attempt that made the container; a second one
//! names the process that is removing it. It lies beside the directories of the containers' streams. So it does not
//! survive a reboot, and it never refers to a later container of the same name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Error, Kind, Result, Step};
use super::{Deps, adopt, find, record};
use crate::process_identity::{Life, ProcessIdentity};
use crate::{ContainerId, Context};

/// No container has this name: names begin with a letter or a digit.
const DIR: &str = ".unfinished";

/// What a note says.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    attempt: String,
    /// The process that is removing the container. `None` if it has failed.
    remover: Option<ProcessIdentity>,
}

impl Note {
    fn parse(text: &str) -> Self {
        let (attempt, remover) = text.split_once('\n').unwrap_or((text, ""));
        Self {
            attempt: attempt.to_owned(),
            remover: ProcessIdentity::parse(remover),
        }
    }

    fn text(&self) -> String {
        match &self.remover {
            Some(remover) => format!("{}\n{remover}", self.attempt),
            None => self.attempt.clone(),
        }
    }

    /// Whether a process is at the removal.
    fn is_under_way(&self) -> bool {
        self.remover
            .as_ref()
            .is_some_and(|remover| remover.life() == Life::Lives)
    }
}

impl Deps {
    fn notes(&self) -> PathBuf {
        let namespace = self.config.namespace.as_str();
        self.config.run_dir.join(namespace).join(DIR)
    }

    /// Notes that this process removes the container of this attempt, for others to see, and in case it ends first.
    ///
    /// # Errors
    /// The file of the note cannot be written.
    pub(super) fn note_removal(&self, id: &ContainerId, attempt: &str) -> io::Result<()> {
        self.write_note(id, attempt, ProcessIdentity::this().cloned())
    }

    /// The same after the removal has failed; also logs it.
    pub(super) fn note_unfinished(&self, id: &ContainerId, attempt: &str) {
        match self.write_note(id, attempt, None) {
            Ok(()) => tracing::warn!(%id, "the next start removes the remains of the container"),
            Err(error) => {
                tracing::error!(%id, %error, "cannot note the remains of the container for the next start")
            }
        }
    }

    fn write_note(
        &self,
        id: &ContainerId,
        attempt: &str,
        remover: Option<ProcessIdentity>,
    ) -> io::Result<()> {
        let (dir, attempt) = (self.notes(), attempt.to_owned());
        let note = Note { attempt, remover }.text();
        let write = || {
            super::host::make_private(&dir)?;
            // As a whole or not at all: a note without its second line is a removal that no process is at. No container
            // has a name that begins with a dot.
            let new = dir.join(format!(".{}", crate::ids::unique()));
            fs::write(&new, &note)?;
            fs::rename(new, dir.join(id.as_str()))
        };
        // Another process may have just removed the directory, because it was empty.
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        write().or_else(|error| if is_gone(&error) { write() } else { Err(error) })
    }

    /// Whether the removal of the container of this attempt was begun.
    pub(super) fn is_being_removed(&self, id: &ContainerId, attempt: &str) -> bool {
        // There is almost never a note.
        let note = fs::read_to_string(self.notes().join(id.as_str()));
        note.is_ok_and(|note| Note::parse(&note).attempt == attempt)
    }

    /// Removes the note, because nothing of the container is left.
    pub(super) fn forget_unfinished(&self, id: &ContainerId, attempt: &str) {
        let (dir, note) = (self.notes(), self.notes().join(id.as_str()));
        if self.is_being_removed(id, attempt) && fs::remove_file(note).is_ok() {
            // Fails if there are other notes.
            drop(fs::remove_dir(dir));
        }
    }
}

/// The containers whose removal was begun and not finished, and that no process is at.
pub(super) fn noted(deps: &Deps) -> Vec<ContainerId> {
    let notes = fs::read_dir(deps.notes()).into_iter().flatten().flatten();
    let left = notes.filter(|entry| {
        let note = fs::read_to_string(entry.path());
        note.is_ok_and(|note| !Note::parse(&note).is_under_way())
    });
    let names = left.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| ContainerId::new(&name).ok()).collect()
}

/// Removes what processes have left that were killed while they wrote a note: the part of it, and the directory if that
/// is all. A part has the pid of its process after the dot.
fn remove_parts(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let part = name.to_str().and_then(|name| name.strip_prefix('.'));
        let pid = part.and_then(|part| part.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            drop(fs::remove_file(entry.path()));
        }
    }
    // Fails if there are notes.
    drop(fs::remove_dir(dir));
}

/// Starts to continue the removals that earlier processes have noted, in the background.
pub(super) fn resume(deps: &Arc<Deps>) {
    remove_parts(&deps.notes());
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
    let note = match fs::read_to_string(deps.notes().join(id.as_str())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| Error::new(Step::Close, id, Kind::Internal, error))?,
    };
    let note = Note::parse(&note);
    if note.is_under_way() {
        return Ok(());
    }
    let attempt = note.attempt;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_notes_go_with_their_process_and_notes_stay() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("notes");
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        fs::create_dir(&dir).unwrap();
        for name in [
            &format!(".{}-1-0", ended.id()),
            &format!(".{}-1-0", std::process::id()),
            "c1",
        ] {
            fs::write(dir.join(name), "a1").unwrap();
        }
        remove_parts(&dir);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        for entry in fs::read_dir(&dir).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        remove_parts(&dir);
        assert!(!dir.exists());
    }

    #[test]
    fn a_note_is_under_way_while_its_process_lives() {
        let attempt = || "a1".to_owned();
        let mut ended = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let ended_process = ProcessIdentity::of_pid(ended.id());
        ended.kill().unwrap();
        ended.wait().unwrap();
        for (remover, is_under_way) in [
            (None, false),
            (ended_process, false),
            (ProcessIdentity::this().cloned(), true),
        ] {
            let note = Note {
                attempt: attempt(),
                remover,
            };
            assert_eq!(Note::parse(&note.text()), note);
            assert_eq!(note.is_under_way(), is_under_way, "{note:?}");
        }
    }
}
