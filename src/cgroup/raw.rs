//! The least that a v2 freeze can cost: write, read back, nothing else. The yardstick of `fnctr bench freeze` and of
//! the test that holds [`super::Freezer`] against it.
//!
//! Has neither a deadline nor a rollback; never for a container that serves somebody.

use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::error::Error;
use super::freezer_v2::{self, Files};
use super::paths::Paths;

/// How long a bare wait goes on before the measurement is given up.
const LIMIT: Duration = Duration::from_secs(5);

/// The two files of one cgroup, open.
#[derive(Debug)]
pub(crate) struct Raw {
    dir: std::path::PathBuf,
    files: Files,
}

impl Raw {
    /// Opens the files of a container in the v2 tree.
    pub(crate) fn open(paths: &Paths) -> Result<Self, Error> {
        let Some(dir) = paths.v2.clone() else {
            return Err(Error::Unsupported {
                path: paths.name(),
                what: "freeze",
                file: "cgroup.freeze",
            });
        };
        let files = Files::open(&dir)?;
        Ok(Self { dir, files })
    }

    /// Writes 1 and reads back until frozen.
    pub(crate) fn freeze(&self) -> Result<Duration, Error> {
        self.reach("1", true)
    }

    /// Writes 0 and reads back until thawed.
    pub(crate) fn thaw(&self) -> Result<Duration, Error> {
        self.reach("0", false)
    }

    fn reach(&self, text: &str, frozen: bool) -> Result<Duration, Error> {
        let failed = |op, file| move |source| Error::io(op, &self.dir, file, source);
        let mut buffer = [0; 64];
        let started = Instant::now();
        self.files
            .freeze
            .write_all_at(text.as_bytes(), 0)
            .map_err(failed("write", "cgroup.freeze"))?;
        loop {
            let length = self
                .files
                .events
                .read_at(&mut buffer, 0)
                .map_err(failed("read", "cgroup.events"))?;
            let events = buffer
                .get(..length)
                .and_then(|bytes| std::str::from_utf8(bytes).ok());
            if events.and_then(freezer_v2::frozen) == Some(frozen) {
                return Ok(started.elapsed());
            }
            if started.elapsed() > LIMIT {
                let (path, limit) = (self.dir.clone(), LIMIT);
                return Err(Error::NotFrozen { path, limit });
            }
            thread::yield_now();
        }
    }
}
