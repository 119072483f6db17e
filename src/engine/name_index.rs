//! The names of all containers, as a long-lived process remembers them. Without it, each creation would have containerd
//! look at every record.
//!
//! Processes tell each other by the length of a file that something has changed: each adds a byte before and after it gives a
//! container a name, and both while it has the turn for that name. As long as a process finds only its own bytes there, what
//! it remembers is complete. It may remember too much: a container that has been removed or renamed since, which a look at the
//! record shows.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::ContainerId;

/// The file beside the turns. No container has this name: names begin with a letter or a digit.
const FILE: &str = ".names";
/// The least time between two lists of all names: while other processes name containers all the time, asking for one name
/// costs less.
const LISTED_AGAIN: Duration = Duration::from_secs(10);
/// How many names more than were listed are remembered before they are listed again without those that are gone.
const MORE: usize = 1000;

/// The names.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    file: PathBuf,
    known: Mutex<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    ids: HashMap<String, ContainerId>,
    listed: usize,
    listed_at: Instant,
    /// The length of the file up to which all bytes are accounted for.
    length: u64,
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// No container has it.
    Nobody,
    /// This container had it, and may still have it.
    Perhaps(ContainerId),
    /// Only containerd knows.
    Unknown,
    /// Only containerd knows, and its list of all names should be remembered with this length of the file.
    List(u64),
}

impl NameIndex {
    /// The names of a containerd namespace; `dir` is the namespace's directory of the engine.
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            file: dir.join(FILE),
            known: Mutex::default(),
        }
    }

    /// Says that a name is about to be given, and returns who has it. The caller has the turn for it.
    pub(super) fn announce(&self, name: &str) -> io::Result<Holder> {
        let mut known = self.known();
        let length = self.add_byte()?;
        let Some(remembered) = known.as_mut() else {
            return Ok(Holder::List(length));
        };
        let is_complete = remembered.length + 1 == length;
        let is_small = remembered.ids.len() <= 2 * remembered.listed + MORE;
        if is_complete && is_small {
            remembered.length = length;
            let holder = remembered.ids.get(name).cloned();
            return Ok(holder.map_or(Holder::Nobody, Holder::Perhaps));
        }
        match remembered.listed_at.elapsed() < LISTED_AGAIN {
            true => Ok(Holder::Unknown),
            false => Ok(Holder::List(length)),
        }
    }

    /// Remembers a list of all names, which was begun when the file had that length.
    pub(super) fn remember(&self, ids: HashMap<String, ContainerId>, length: u64) {
        *self.known() = Some(Known {
            listed: ids.len(),
            listed_at: Instant::now(),
            ids,
            length,
        });
    }

    /// Remembers that a name is a container's, before that is on the record.
    pub(super) fn give(&self, name: &str, id: &ContainerId) {
        if let Some(known) = self.known().as_mut() {
            known.ids.insert(name.to_owned(), id.clone());
        }
    }

    /// Says that the name has been given, or not.
    pub(super) fn done(&self) {
        let mut known = self.known();
        // Without this byte, others miss the name only if they have listed since the one before.
        match self.add_byte() {
            Ok(length) => {
                if let Some(known) = known.as_mut().filter(|known| known.length + 1 == length) {
                    known.length = length;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot tell other processes of a container's name"),
        }
    }

    /// Returns the length of the file behind this process's own byte.
    fn add_byte(&self) -> io::Result<u64> {
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&self.file)?;
        file.write_all(b".")?;
        file.stream_position()
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ContainerId {
        ContainerId::new(text).unwrap()
    }

    fn listed(names: &[(&str, &str)]) -> HashMap<String, ContainerId> {
        names
            .iter()
            .map(|(name, of)| ((*name).to_owned(), id(of)))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_remembered_until_another_process_gives_one() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (NameIndex::new(dir.path()), NameIndex::new(dir.path()));
        let Holder::List(length) = own.announce("a").unwrap() else {
            panic!("nothing is known at first");
        };
        own.remember(listed(&[("old", "c0")]), length);
        own.give("a", &id("c1"));
        own.done();
        for _ in 0..3 {
            assert_eq!(own.announce("b").unwrap(), Holder::Nobody);
            own.done();
            assert_eq!(own.announce("a").unwrap(), Holder::Perhaps(id("c1")));
            assert_eq!(own.announce("old").unwrap(), Holder::Perhaps(id("c0")));
        }
        // The other one is about to give a name, and has not given it yet: a list would not have it.
        assert!(matches!(other.announce("c").unwrap(), Holder::List(_)));
        assert_eq!(own.announce("c2").unwrap(), Holder::Unknown);
        tokio::time::advance(LISTED_AGAIN).await;
        let Holder::List(length) = own.announce("c2").unwrap() else {
            panic!("it is time for a list");
        };
        own.remember(listed(&[]), length);
        other.done();
        assert_eq!(own.announce("c").unwrap(), Holder::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_are_gone_are_not_remembered_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let own = NameIndex::new(dir.path());
        let Holder::List(length) = own.announce("a").unwrap() else {
            panic!("nothing is known at first");
        };
        own.remember(HashMap::new(), length);
        tokio::time::advance(LISTED_AGAIN).await;
        let mut given = 0;
        while own.announce("next").unwrap() == Holder::Nobody {
            own.give(&format!("n{given}"), &id("c"));
            given += 1;
        }
        assert_eq!(given, MORE + 1);
    }
}
