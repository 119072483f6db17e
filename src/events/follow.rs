//! Reads the log: what it has, and then what comes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::event::Event;
use super::files;

/// How every event begins.
const BEGINNING: &[u8] = b"{\"at\":";

/// A reader of the log.
#[derive(Debug)]
pub(crate) struct Follower {
    dir: PathBuf,
    since: Option<SystemTime>,
    changes: AsyncFd<OwnedFd>,
    /// The file that is read, and its number.
    current: Option<(BufReader<File>, u64)>,
    /// The number of the last file that was read to its end, or that is not to be read.
    last: u64,
    /// A line that is not complete yet.
    part: Vec<u8>,
    ready: VecDeque<Next>,
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// An event.
    Event(Event),
    /// Events were lost here: more happened than the log holds before they were read.
    Gap,
}

impl Follower {
    pub(super) fn new(dir: &Path, since: Option<SystemTime>) -> io::Result<Self> {
        let changes = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // Before the first read, so that nothing comes between the two.
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&changes, dir, what)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, and the descriptor is owned, which is what that asks for"
        )]
        let changes = AsyncFd::with_interest(changes, Interest::READABLE)?;
        let before = files::open(&files::before(dir))?;
        // Without a file to begin with, the next one is the first that is made, even if it is full before it is read.
        let last = before.as_ref().map_or(0, |(_, number)| *number);
        let mut current = match since {
            Some(_) => before,
            None => files::open(&files::now(dir))?,
        };
        if let (None, Some((file, _))) = (since, &mut current) {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            since,
            changes,
            current,
            last,
            part: Vec::new(),
            ready: VecDeque::new(),
        })
    }

    /// The next of the events that the log has by now; `None` if there is no more.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn next_now(&mut self) -> io::Result<Option<Next>> {
        loop {
            if let Some(next) = self.ready.pop_front() {
                return Ok(Some(next));
            }
            if self.current.is_none() && !self.turn_page()? {
                return Ok(None);
            }
            if self.read_line()? {
                continue;
            }
            // The end of this file: of the log too, unless another one has taken its place.
            if self.is_written()? {
                return Ok(None);
            }
            // What was written between the two looks.
            if !self.read_line()? {
                self.last = self.current.take().map_or(self.last, |(_, number)| number);
                self.part.clear();
            }
        }
    }

    /// The next event; waits for one if there is none.
    ///
    /// # Errors
    /// The log cannot be read.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn next(&mut self) -> io::Result<Next> {
        loop {
            if let Some(next) = self.next_now()? {
                return Ok(next);
            }
            let mut changed = self.changes.readable().await?;
            // What has changed is of no interest: the files are read.
            match rustix::io::read(changed.get_inner(), &mut [0; 4096]) {
                Err(Errno::WOULDBLOCK) => changed.clear_ready(),
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
    }

    /// Goes on to the next file. Returns whether there is one.
    fn turn_page(&mut self) -> io::Result<bool> {
        let next = self.last + 1;
        // In this order: the second look finds what was the first one's file, if it is full meanwhile.
        let now = files::open(&files::now(&self.dir))?;
        let before = files::open(&files::before(&self.dir))?;
        let found = [before, now]
            .into_iter()
            .flatten()
            .find(|(_, number)| *number >= next);
        let Some(found) = found else { return Ok(false) };
        if found.1 > next {
            self.ready.push_back(Next::Gap);
        }
        self.current = Some(found);
        Ok(true)
    }

    /// Whether the file that is read is the one that is written.
    fn is_written(&self) -> io::Result<bool> {
        let Some((file, _)) = &self.current else {
            return Ok(false);
        };
        let own = file.get_ref().metadata()?;
        let there = std::fs::metadata(files::now(&self.dir));
        Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())))
    }

    /// Reads a line. Returns whether there was one.
    fn read_line(&mut self) -> io::Result<bool> {
        let Some((file, _)) = &mut self.current else {
            return Ok(false);
        };
        if file.read_until(b'\n', &mut self.part)? == 0 || !self.part.ends_with(b"\n") {
            return Ok(false);
        }
        let line = std::mem::take(&mut self.part);
        // A full disk may have left a part of an event before this one.
        let at = line.windows(BEGINNING.len()).rposition(|part| part == BEGINNING);
        let whole = at.and_then(|at| line.get(at..)).unwrap_or_default();
        match serde_json::from_slice::<Event>(whole) {
            Ok(event) if self.since.is_none_or(|since| event.at >= since) => {
                self.ready.push_back(Next::Event(event));
            }
            Ok(_) => {}
            // Of another version of fnctr.
            Err(error) => tracing::debug!(%error, "an event cannot be read"),
        }
        Ok(true)
    }
}
