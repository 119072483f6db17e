//! Writes the log.
//!
//! A writer holds a shared lock on the file; to begin the next file, it takes an exclusive one. So nothing is written
//! to a file after a reader has continued with the next one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::event::Event;
use super::files;
use super::follow::Follower;
use crate::clock;
use crate::dir_changes::Changes;

/// The size in bytes above which the next file is begun; there are two files. The events of one function take some 500.
const LARGEST: u64 = 4 << 20;
/// How often a lock is tried while another process has it, usually because that process begins the next file.
const TRIES: u32 = 1000;
const PAUSE: Duration = Duration::from_micros(200);

/// The log in one directory. Any number of processes may write it.
#[derive(Debug)]
pub(crate) struct EventLog {
    dir: PathBuf,
    largest: u64,
    /// The file that was written last.
    file: Mutex<Option<File>>,
    /// The watch that all followers share, while there is one.
    changes: Mutex<Weak<Changes>>,
}

impl EventLog {
    /// The log in `dir`, which the first write makes.
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Self::bounded(dir, LARGEST)
    }

    pub(super) fn bounded(dir: impl Into<PathBuf>, largest: u64) -> Self {
        Self {
            dir: dir.into(),
            largest,
            file: Mutex::new(None),
            changes: Mutex::default(),
        }
    }

    /// Writes an event, and returns whether it was written. If not, the event is lost, and the reason is logged.
    pub(crate) fn record(&self, event: Event) -> bool {
        let written = self.append(event);
        if let Err(error) = &written {
            tracing::debug!(dir = %self.dir.display(), %error, "an event is lost");
        }
        written.is_ok()
    }

    /// A reader of the events since a moment, or of new events only, which then follows the log.
    ///
    /// # Errors
    /// The directory cannot be made or watched.
    pub(crate) fn follow(&self, since: Option<SystemTime>) -> io::Result<Follower> {
        make_private(&self.dir)?;
        Follower::new(&self.dir, self.changes()?.view(), since)
    }

    fn changes(&self) -> io::Result<Arc<Changes>> {
        let mut known = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        // The directory may have been removed and made again.
        if let Some(changes) = known.upgrade().filter(|changes| changes.is_of(&self.dir)) {
            return Ok(changes);
        }
        let changes = Arc::new(Changes::of(&self.dir)?);
        *known = Arc::downgrade(&changes);
        Ok(changes)
    }

    pub(super) fn append(&self, mut event: Event) -> io::Result<()> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_full = true;
        loop {
            let mut file = match held.take() {
                Some(file) => file,
                None => self.open()?,
            };
            let is_locked = locked(&file, FlockOperation::NonBlockingLockShared);
            // Another process may have begun the next file.
            if !self.is_current(&file)? {
                continue;
            }
            if is_full && is_locked && file.metadata()?.len() > self.largest {
                // If another process is writing, this one continues with the same file. The lock is taken again,
                // because the attempt to make it exclusive has released it (flock(2)).
                is_full = self.begin_next(&file)?;
                *held = Some(file);
                continue;
            }
            event.at = clock::now();
            let mut line = serde_json::to_vec(&event)?;
            line.push(b'\n');
            // In one write, because the kernel appends each write as a whole.
            file.write_all(&line)?;
            flock(&file, FlockOperation::Unlock)?;
            *held = Some(file);
            return Ok(());
        }
    }

    /// Opens the current file, and makes it if there is none.
    fn open(&self) -> io::Result<File> {
        let open = || OpenOptions::new().append(true).open(files::now(&self.dir));
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make()?;
                open()
            }
            opened => opened,
        }
    }

    /// Makes the current file with its first line. Does nothing if another process is faster.
    fn make(&self) -> io::Result<()> {
        make_private(&self.dir)?;
        let before = files::open(&files::before(&self.dir))?;
        let number = before.map_or(1, |(_, number)| number + 1);
        let new = self.dir.join(format!(".{}", crate::ids::unique()));
        let mut options = OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(&new);
        let linked = made
            .and_then(|mut file| file.write_all(files::header(number).as_bytes()))
            .and_then(|()| std::fs::hard_link(&new, files::now(&self.dir)));
        drop(std::fs::remove_file(&new));
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    fn is_current(&self, file: &File) -> io::Result<bool> {
        let file = file.metadata()?;
        let there = std::fs::metadata(files::now(&self.dir));
        Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (file.dev(), file.ino())))
    }

    /// Begins the next file, unless another process has done that. Returns `false` if another process is writing this
    /// one.
    fn begin_next(&self, file: &File) -> io::Result<bool> {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if self.is_current(file)? => {}
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        std::fs::rename(files::now(&self.dir), files::before(&self.dir))?;
        self.make()?;
        Ok(true)
    }
}

/// Takes a lock, and returns whether it did. Gives up after a while, so that a process that was stopped while it had
/// the lock does not block the others.
fn locked(file: &File, lock: FlockOperation) -> bool {
    for _ in 0..TRIES {
        match flock(file, lock) {
            Ok(()) => return true,
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(PAUSE),
            Err(_) => return false,
        }
    }
    false
}

/// Makes the directory, private to this user.
fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut private = std::fs::DirBuilder::new();
    private.recursive(true).mode(0o700).create(dir)
}
