//! The v1 freezer: `freezer.state` takes the request and returns the actual state.
//!
//! The kernel can miss a process that forks or joins while it goes through the list. Then the state stays at FREEZING
//! until the request is written again, so the waiting loop repeats the request. A frozen v1 cgroup does not die of
//! SIGKILL until it is thawed: kill, then thaw.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::clock::Clock;
use super::state::{Goal, State};
use crate::cgroup::error::Error;
use crate::cgroup::files;

const STATE: &str = "freezer.state";

/// The state file of one cgroup, opened at the first use and kept.
#[derive(Debug)]
pub(crate) struct V1 {
    dir: PathBuf,
    file: OnceLock<File>,
    clock: Clock,
}

impl V1 {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            file: OnceLock::new(),
            clock: Clock::default(),
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn request(&self, goal: Goal) -> Result<(), Error> {
        let text = match goal {
            Goal::Frozen => "FROZEN",
            Goal::Thawed => "THAWED",
        };
        files::rewrite(self.file()?, &self.dir, STATE, text)
    }

    pub(super) fn reached(&self, goal: Goal) -> Result<bool, Error> {
        let wanted = match goal {
            Goal::Frozen => State::Frozen,
            Goal::Thawed => State::Thawed,
        };
        Ok(self.state()? == wanted)
    }

    pub(super) fn state(&self) -> Result<State, Error> {
        let mut buffer = [0; 16];
        let text = files::reread(self.file()?, &self.dir, STATE, &mut buffer)?;
        state(text).ok_or_else(|| Error::Unreadable {
            path: self.dir.join(STATE),
            what: "freezer state",
        })
    }

    /// Whether every process is frozen. Does not keep the file open if it was not open before.
    pub(super) fn frozen_now(&self) -> Result<bool, Error> {
        if self.file.get().is_some() {
            return Ok(self.state()? == State::Frozen);
        }
        let text = files::read(&self.dir, STATE)?;
        Ok(text.as_deref().and_then(state) == Some(State::Frozen))
    }

    fn file(&self) -> Result<&File, Error> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let opened = files::open(&self.dir, STATE, true, "freeze")?;
        Ok(self.file.get_or_init(|| opened))
    }
}

fn state(text: &str) -> Option<State> {
    match text.trim() {
        "FROZEN" => Some(State::Frozen),
        "FREEZING" => Some(State::Freezing),
        "THAWED" => Some(State::Thawed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_three_words_are_known() {
        assert_eq!(state("FROZEN\n"), Some(State::Frozen));
        assert_eq!(state("FREEZING\n"), Some(State::Freezing));
        assert_eq!(state("THAWED\n"), Some(State::Thawed));
        assert_eq!(state("frozen"), None);
        assert_eq!(state(""), None);
    }
}
