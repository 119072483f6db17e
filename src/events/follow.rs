//! Reads the log: the events in it, and then each new one.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::event::Event;
use super::files;
use crate::dir_changes::View;

/// The beginning of the line of every event.
const BEGINNING: &[u8] = b"{\"at\":";

/// A reader of the log.
#[derive(Debug)]
pub(crate) struct Follower {
    dir: PathBuf,
    since: Option<SystemTime>,
    changes: View,
    /// The file that is being read, and its number.
    current: Option<(BufReader<File>, u64)>,
    /// The number of the last file that was read to its end or is skipped.
    last: u64,
    /// A line that is not complete yet.
    part: Vec<u8>,
    ready: VecDeque<Next>,
}

/// The next item of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// An event.
    Event(Event),
    /// Events are missing here: the log dropped them before they were read.
    Gap,
}

impl Follower {
    /// `changes` were begun before, so that no event in between is missed.
    pub(super) fn new(dir: &Path, changes: View, since: Option<SystemTime>) -> io::Result<Self> {
        let before = files::open(&files::before(dir))?;
        // Without any file, reading begins with the first one that is made, even if it is the previous one by then.
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

    /// Returns the next event that is in the log already; `None` if there is none.
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
            // The end of this file is the end of the log, unless another file is the current one by now.
            if self.is_written()? {
                return Ok(None);
            }
            // Lines that were written between the read and the check.
            if !self.read_line()? {
                self.last = self.current.take().map_or(self.last, |(_, number)| number);
                self.part.clear();
            }
        }
    }

    /// Returns the next event, and waits if there is none yet.
    ///
    /// # Errors
    /// The log cannot be read.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn next(&mut self) -> io::Result<Next> {
        loop {
            self.changes.look();
            if let Some(next) = self.next_now()? {
                return Ok(next);
            }
            self.changes.changed().await?;
        }
    }

    /// Continues with the next file, and returns whether there is one.
    fn turn_page(&mut self) -> io::Result<bool> {
        let next = self.last + 1;
        // Opened in this order: a current file that is full meanwhile is found as the previous one.
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

    /// Whether the file that is being read is the current one.
    fn is_written(&self) -> io::Result<bool> {
        let Some((file, _)) = &self.current else {
            return Ok(false);
        };
        let own = file.get_ref().metadata()?;
        let there = std::fs::metadata(files::now(&self.dir));
        Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())))
    }

    /// Reads a complete line, and returns whether there was one.
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
            // Written by another version of fnctr.
            Err(error) => tracing::debug!(%error, "an event cannot be read"),
        }
        Ok(true)
    }
}
