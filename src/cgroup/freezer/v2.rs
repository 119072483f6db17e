//! The v2 freezer: requests are written to `cgroup.freeze`, the actual state is read from `cgroup.events`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::clock::Clock;
use super::state::{Goal, State};
use crate::cgroup::error::Error;
use crate::cgroup::files;

const FREEZE: &str = "cgroup.freeze";
const EVENTS: &str = "cgroup.events";

/// The freezer files of one cgroup, opened at the first use and kept.
#[derive(Debug)]
pub(crate) struct V2 {
    dir: PathBuf,
    files: OnceLock<Files>,
    clock: Clock,
}

#[derive(Debug)]
pub(super) struct Files {
    pub(super) freeze: File,
    pub(super) events: File,
}

impl Files {
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self {
            freeze: files::open(dir, FREEZE, true, "freeze")?,
            events: files::open(dir, EVENTS, false, "freeze")?,
        })
    }
}

impl V2 {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            files: OnceLock::new(),
            clock: Clock::default(),
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The file on which the kernel reports changes, if a freeze or thaw has opened it.
    pub(super) fn events(&self) -> Option<&File> {
        self.files.get().map(|files| &files.events)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn request(&self, goal: Goal) -> Result<(), Error> {
        let text = match goal {
            Goal::Frozen => "1",
            Goal::Thawed => "0",
        };
        files::rewrite(&self.files()?.freeze, &self.dir, FREEZE, text)
    }

    pub(super) fn reached(&self, goal: Goal) -> Result<bool, Error> {
        Ok(self.frozen()? == (goal == Goal::Frozen))
    }

    pub(super) fn state(&self) -> Result<State, Error> {
        if self.frozen()? {
            return Ok(State::Frozen);
        }
        let mut buffer = [0; 8];
        let asked = files::reread(&self.files()?.freeze, &self.dir, FREEZE, &mut buffer)?;
        match asked.trim() {
            "0" => Ok(State::Thawed),
            _ => Ok(State::Freezing),
        }
    }

    fn frozen(&self) -> Result<bool, Error> {
        // `populated N` and `frozen N`, one line each; the buffer has room for a third line.
        let mut buffer = [0; 128];
        let events = files::reread(&self.files()?.events, &self.dir, EVENTS, &mut buffer)?;
        frozen(events).ok_or_else(|| Error::Unreadable {
            path: self.dir.join(EVENTS),
            what: "frozen state",
        })
    }

    /// Whether every process is frozen. Does not keep the files open if they were not open before.
    pub(super) fn frozen_now(&self) -> Result<bool, Error> {
        if self.files.get().is_some() {
            return self.frozen();
        }
        let events = files::read(&self.dir, EVENTS)?;
        Ok(events.as_deref().and_then(frozen) == Some(true))
    }

    fn files(&self) -> Result<&Files, Error> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        // Two callers may both open the files; the second pair is closed again.
        let opened = Files::open(&self.dir)?;
        Ok(self.files.get_or_init(|| opened))
    }
}

/// Whether a `cgroup.events` reports that every process is frozen.
pub(super) fn frozen(events: &str) -> Option<bool> {
    let value = events.lines().find_map(|line| line.strip_prefix("frozen "))?;
    Some(value.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_frozen_line_is_believed() {
        assert_eq!(frozen("populated 1\nfrozen 0\n"), Some(false));
        assert_eq!(frozen("populated 0\nfrozen 1\n"), Some(true));
        assert_eq!(frozen("populated 1\n"), None);
        assert_eq!(frozen(""), None);
    }
}
