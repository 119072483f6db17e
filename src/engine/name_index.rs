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
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use tokio::time::Instant;

use crate::ContainerId;

/// The file beside the turns. No container has this name: names begin with a letter or a digit.
const FILE: &str = ".names";
/// The least time between two lists of all names: while other processes name containers all the time, asking for one name
/// costs less.
const LISTED_AGAIN: Duration = Duration::from_secs(10);
/// How many names more than were listed are remembered before they are listed again without those that are gone.
const MORE: usize = 1000;
/// After how many bytes the file's pages are given back.
const PUNCHED: u64 = 64 << 10;

/// The names.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    file: PathBuf,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    /// `None` until they are listed.
    known: Option<Known>,
    /// Those that this process is giving. A list that is read meanwhile may lack them.
    given: HashMap<String, ContainerId>,
}

#[derive(Debug)]
struct Known {
    ids: HashMap<String, ContainerId>,
    listed: usize,
    listed_at: Instant,
    /// Up to where all bytes of the file are accounted for.
    mark: Mark,
}

/// How long the file is, and which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    length: u64,
}

impl Mark {
    /// Whether this is the very next byte after `earlier`.
    fn follows(self, earlier: Self) -> bool {
        self.inode == earlier.inode && self.length == earlier.length + 1
    }
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
    /// Only containerd knows, and its list of all names should be remembered with this mark.
    List(Mark),
}

impl NameIndex {
    /// The names of a containerd namespace; `dir` is the namespace's directory of the engine.
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            file: dir.join(FILE),
            names: Mutex::default(),
        }
    }

    /// Says that a name is about to be given, and returns who has it. The caller has the turn for it.
    pub(super) fn announce(&self, name: &str) -> io::Result<Holder> {
        let mut names = self.names();
        let mark = self.add_byte()?;
        let Some(known) = names.known.as_mut() else {
            return Ok(Holder::List(mark));
        };
        let is_small = known.ids.len() <= 2 * known.listed + MORE;
        if mark.follows(known.mark) && is_small {
            known.mark = mark;
            let holder = known.ids.get(name).cloned();
            return Ok(holder.map_or(Holder::Nobody, Holder::Perhaps));
        }
        match known.listed_at.elapsed() < LISTED_AGAIN {
            true => Ok(Holder::Unknown),
            false => Ok(Holder::List(mark)),
        }
    }

    /// Remembers a list of all names, which was begun at that mark.
    pub(super) fn remember(&self, ids: HashMap<String, ContainerId>, mark: Mark) {
        let mut names = self.names();
        let listed = ids.len();
        let mut all = ids;
        all.extend(names.given.clone());
        names.known = Some(Known {
            ids: all,
            listed,
            listed_at: Instant::now(),
            mark,
        });
    }

    /// Remembers that a name is a container's, before that is on the record.
    pub(super) fn give(&self, name: &str, id: &ContainerId) {
        let mut names = self.names();
        names.given.insert(name.to_owned(), id.clone());
        if let Some(known) = names.known.as_mut() {
            known.ids.insert(name.to_owned(), id.clone());
        }
    }

    /// Says that the name has been given, or not.
    pub(super) fn done(&self, name: &str) {
        let mut names = self.names();
        names.given.remove(name);
        // Without this byte, others miss the name only if they have listed since the one before.
        match self.add_byte() {
            Ok(mark) => {
                if let Some(known) = names.known.as_mut().filter(|known| mark.follows(known.mark)) {
                    known.mark = mark;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot tell other processes of a container's name"),
        }
    }

    /// Returns the mark behind this process's own byte.
    fn add_byte(&self) -> io::Result<Mark> {
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&self.file)?;
        file.write_all(b".")?;
        let mark = Mark {
            inode: file.metadata()?.ino(),
            length: file.stream_position()?,
        };
        // Only its length is read. Where that is not possible, it takes two bytes for each name.
        if mark.length.is_multiple_of(PUNCHED) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if let Err(error) = fallocate(&file, flags, 0, mark.length) {
                tracing::debug!(%error, "the file of names keeps its room");
            }
        }
        Ok(mark)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn mark(index: &NameIndex, name: &str) -> Mark {
        match index.announce(name).unwrap() {
            Holder::List(mark) => mark,
            other => panic!("it should be listed: {other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_remembered_until_another_process_gives_one() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (NameIndex::new(dir.path()), NameIndex::new(dir.path()));
        let at = mark(&own, "a");
        own.remember(listed(&[("old", "c0")]), at);
        own.give("a", &id("c1"));
        own.done("a");
        for _ in 0..3 {
            assert_eq!(own.announce("b").unwrap(), Holder::Nobody);
            own.done("b");
            assert_eq!(own.announce("a").unwrap(), Holder::Perhaps(id("c1")));
            assert_eq!(own.announce("old").unwrap(), Holder::Perhaps(id("c0")));
        }
        // The other one is about to give a name, and has not given it yet: a list would not have it.
        mark(&other, "c");
        assert_eq!(own.announce("c2").unwrap(), Holder::Unknown);
        tokio::time::advance(LISTED_AGAIN).await;
        let at = mark(&own, "c2");
        own.remember(listed(&[]), at);
        other.done("c");
        assert_eq!(own.announce("c").unwrap(), Holder::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_does_not_take_back_what_is_given_while_it_is_read() {
        for is_done_first in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let own = NameIndex::new(dir.path());
            let (first, second) = (mark(&own, "b"), mark(&own, "a"));
            own.remember(listed(&[]), first);
            own.give("b", &id("c1"));
            // Its record is made after the second list was read.
            if is_done_first {
                own.done("b");
            }
            own.remember(listed(&[]), second);
            if !is_done_first {
                own.done("b");
            }
            let holder = own.announce("b").unwrap();
            assert_ne!(holder, Holder::Nobody, "{is_done_first}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_file_of_the_same_length_is_not_taken_for_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let own = NameIndex::new(dir.path());
        let at = mark(&own, "a");
        own.remember(listed(&[]), at);
        let (file, kept) = (dir.path().join(FILE), dir.path().join("kept"));
        std::fs::rename(&file, &kept).unwrap();
        std::fs::write(&file, ".").unwrap();
        assert_eq!(own.announce("b").unwrap(), Holder::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_are_gone_are_not_remembered_for_ever_and_the_file_takes_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let own = NameIndex::new(dir.path());
        let at = mark(&own, "a");
        own.remember(HashMap::new(), at);
        tokio::time::advance(LISTED_AGAIN).await;
        let mut given = 0;
        while own.announce("next").unwrap() == Holder::Nobody {
            own.give(&format!("n{given}"), &id("c"));
            given += 1;
        }
        assert_eq!(given, MORE + 1);
        for _ in 0..2 * PUNCHED {
            own.done("n");
        }
        let file = dir.path().join(FILE).metadata().unwrap();
        assert!(
            file.len() > 2 * PUNCHED && file.blocks() * 512 <= PUNCHED + 8192,
            "{}",
            file.blocks()
        );
    }
}
