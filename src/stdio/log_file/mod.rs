//! A container's output in files, for those who read it later: byte for byte what Docker's driver `json-file` writes.
//!
//! ```text
//! stdout ─► Logged ─┬─► the container's writer
//!                   └─► pieces ─► entries ─► Backlog ─► a task that may block ─► DIR/NAME ─► NAME.1 ─► NAME.2.gz …
//! stderr ─► Logged ─┬─► pieces ─► entries ─┘ 1 MiB           │ changes
//!                   └─► the container's writer               ▼
//!                                                   LogReader: tail, since, until, follow
//! ```
//!
//! One process writes a log at a time, the one that carries the container's streams; any process can read it. While it is
//! open, its directory is locked (flock(2)).
//!
//! Written without a crate: the form, the rotation and the reading of rotated files are Docker's, which no crate has.

mod backlog;
mod cursor;
mod entry;
mod files;
mod options;
mod pieces;
mod reader;
mod sources;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use self::backlog::{Backlog, WeakBacklog};
use self::cursor::Cursor;
pub(crate) use self::cursor::LogQuery;
use self::entry::Format;
pub(crate) use self::entry::LogEntry;
use self::files::{Files, Names, Rotation};
pub(crate) use self::options::LogOptions;
use self::reader::Follow;
pub(crate) use self::reader::LogReader;
use self::stream::FileStream;
use super::logged::{Wait, logged};
use super::{Stream, Streams};
use crate::metrics::Metrics;

/// How long what was written before a read may take to reach the files.
const FLUSHING: Duration = Duration::from_secs(2);

/// The logs that this process writes.
#[derive(Debug, Default)]
pub(crate) struct LogFiles(Mutex<HashMap<PathBuf, WeakBacklog>>);

impl LogFiles {
    /// Makes a new log at `path`; what an earlier one has left in its directory goes.
    ///
    /// # Errors
    /// If it cannot be made.
    ///
    /// # Cancellation
    /// Safe to drop; the file may be left.
    pub(crate) async fn make(path: &Path) -> io::Result<()> {
        let names = Names(path.to_owned());
        let made = tokio::task::spawn_blocking(move || Files::make(&names));
        made.await.map_err(io::Error::other)?
    }

    /// Returns the streams with a log attached. A null stream becomes attached, only for the log. What cannot be written is
    /// counted, and a warning is logged. The directory of `path` is the log's own.
    pub(crate) fn attach(
        &self,
        path: &Path,
        options: &LogOptions,
        streams: Streams,
        tracker: &TaskTracker,
        metrics: &Arc<Metrics>,
    ) -> Streams {
        let backlog = {
            let mut open = self.open();
            open.retain(|_, backlog| backlog.upgrade().is_some());
            match open.get(path).and_then(WeakBacklog::upgrade) {
                // The last run of the container may not be written yet.
                Some(known) => {
                    known.join();
                    known
                }
                None => {
                    let names = Names(path.to_owned());
                    let new = Backlog::new(names, options.rotation, options.buffer, tracker, metrics);
                    open.insert(path.to_owned(), new.downgrade());
                    new
                }
            }
        };
        let of = |stream| FileStream::new(backlog.clone(), Format::new(stream, &options.attrs));
        let (out, err) = (of(Stream::Stdout), of(Stream::Stderr));
        Streams {
            stdin: streams.stdin,
            stdout: logged(streams.stdout, out),
            stderr: logged(streams.stderr, err),
        }
    }

    /// Reads the log at `path`. A reader that `follows` goes on until `ended`, which completes when the container has ended, and
    /// is `None` if it had before; any other ends where the log ends now.
    ///
    /// # Errors
    /// Those of the file system.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn read(
        &self,
        path: &Path,
        rotation: Rotation,
        query: LogQuery,
        follows: bool,
        ended: Option<Wait>,
    ) -> io::Result<LogReader> {
        let (writer, dir) = (self.writer(path), path.parent().unwrap_or(path));
        // Before the first look, so that nothing in between is missed.
        let follow = match (writer, ended) {
            (Some(writer), ended) if follows => Some(Follow::here(dir, writer.changes(), ended)),
            (None, Some(ended)) if follows => Some(Follow::there(dir, ended)?),
            // What a container has written before its end belongs to it.
            (Some(writer), None) => {
                drop(tokio::time::timeout(FLUSHING, writer.flushed()).await);
                None
            }
            _ => None,
        };
        let (names, is_followed) = (Names(path.to_owned()), follow.is_some());
        let opened =
            tokio::task::spawn_blocking(move || Cursor::new(names, rotation.max_files, query, is_followed));
        let cursor = opened.await.map_err(io::Error::other)??;
        Ok(LogReader::new(cursor, follow, query.until))
    }

    /// Waits until this process has written all of the log at `path`, for a bounded time. The container has ended.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn written(&self, path: &Path) {
        let Some(mut changes) = self.writer(path).map(|writer| writer.changes()) else {
            return;
        };
        // The sender goes with the writer.
        let closed = async { while changes.changed().await.is_ok() {} };
        drop(tokio::time::timeout(FLUSHING, closed).await);
    }

    /// The log at `path`, if this process writes it.
    fn writer(&self, path: &Path) -> Option<Backlog> {
        self.open().get(path).and_then(WeakBacklog::upgrade)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<PathBuf, WeakBacklog>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
