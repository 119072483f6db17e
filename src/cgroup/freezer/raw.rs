//! The lowest possible cost of a freeze: write and read back, nothing else. `fnctr bench freeze` compares
//! [`super::Freezer`] with it.
//!
//! Has neither a deadline nor a rollback, so it must not be used for a container that is in service.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::state::Goal;
use super::v1::V1;
use super::v2::{self, Files};
use crate::cgroup::error::Error;
use crate::cgroup::paths::Paths;

/// How long a bare wait goes on before the measurement fails.
const LIMIT: Duration = Duration::from_secs(5);

/// The files of one cgroup, open.
#[derive(Debug)]
pub(crate) struct RawFreezer(Open);

#[derive(Debug)]
enum Open {
    /// In the v2 tree.
    V2 { dir: PathBuf, files: Files },
    /// In the hierarchy of the v1 freezer.
    V1(V1),
}

impl RawFreezer {
    /// Opens the files of a container, in the v2 tree if the container is in it.
    pub(crate) fn open(paths: &Paths) -> Result<Self, Error> {
        if let Some(dir) = paths.v2.clone() {
            let files = Files::open(&dir)?;
            return Ok(Self(Open::V2 { dir, files }));
        }
        let Some(dir) = paths.freezer.clone() else {
            return Err(Error::Unsupported {
                path: paths.name(),
                what: "freeze",
                file: "cgroup.freeze",
            });
        };
        Ok(Self(Open::V1(V1::new(dir))))
    }

    /// Requests a freeze, and reads back until the kernel confirms it.
    pub(crate) fn freeze(&self) -> Result<Duration, Error> {
        match &self.0 {
            Open::V2 { dir, files } => reach(dir, files, "1", true),
            Open::V1(v1) => reach_v1(v1, Goal::Frozen),
        }
    }

    /// Requests a thaw, and reads back until the kernel confirms it.
    pub(crate) fn thaw(&self) -> Result<Duration, Error> {
        match &self.0 {
            Open::V2 { dir, files } => reach(dir, files, "0", false),
            Open::V1(v1) => reach_v1(v1, Goal::Thawed),
        }
    }
}

fn reach(dir: &Path, files: &Files, text: &str, frozen: bool) -> Result<Duration, Error> {
    let failed = |op, file| move |source| Error::io(op, dir, file, source);
    let mut buffer = [0; 64];
    let started = Instant::now();
    files
        .freeze
        .write_all_at(text.as_bytes(), 0)
        .map_err(failed("write", "cgroup.freeze"))?;
    loop {
        let length = files
            .events
            .read_at(&mut buffer, 0)
            .map_err(failed("read", "cgroup.events"))?;
        let events = buffer
            .get(..length)
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        if events.and_then(v2::frozen) == Some(frozen) {
            return Ok(started.elapsed());
        }
        if started.elapsed() > LIMIT {
            let (path, limit) = (dir.to_owned(), LIMIT);
            return Err(Error::NotFrozen { path, limit });
        }
        thread::yield_now();
    }
}

fn reach_v1(v1: &V1, goal: Goal) -> Result<Duration, Error> {
    let started = Instant::now();
    loop {
        // Repeated each time: otherwise a process that forked meanwhile is missed.
        v1.request(goal)?;
        if v1.reached(goal)? {
            return Ok(started.elapsed());
        }
        if started.elapsed() > LIMIT {
            let (path, limit) = (v1.dir().to_owned(), LIMIT);
            return Err(Error::NotFrozen { path, limit });
        }
        thread::yield_now();
    }
}
