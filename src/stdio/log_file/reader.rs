//! Reads a log, and follows it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::cursor::Cursor;
use super::entry::LogEntry;
use crate::clock;
use crate::dir_changes::{Changes, View};
use crate::file_lock::FileLock;
use crate::stdio::logged::Wait;

/// How long the process that writes the log may take to write the rest of it when the container has ended.
const REST: Duration = Duration::from_secs(3);
/// How often it is looked at until then.
const LOOK: Duration = Duration::from_millis(20);

/// A reader of a log.
pub(crate) struct LogReader {
    /// `None` while it reads.
    cursor: Option<Cursor>,
    follow: Option<Follow>,
    until: Option<SystemTime>,
}

/// How a reader learns that there is more.
pub(super) enum Follow {
    /// This process writes the log; the end of the sender is the end of the log.
    Here(watch::Receiver<u64>),
    /// Another process does.
    There {
        view: View,
        /// Completes when the container has ended.
        ended: Wait,
        dir: Arc<Path>,
    },
}

impl Follow {
    /// Follows the log of another process.
    pub(super) fn there(dir: &Path, ended: Wait) -> io::Result<Self> {
        let view = Arc::new(Changes::of(dir)?).view();
        let dir = Arc::from(dir);
        Ok(Self::There { view, ended, dir })
    }

    /// The reader is about to look: what has changed until now is no change any more.
    fn look(&mut self) {
        match self {
            Self::Here(changes) => changes.mark_unchanged(),
            Self::There { view, .. } => view.look(),
        }
    }

    /// Waits for a change since the last look. Returns false if none will come.
    async fn changed(&mut self) -> io::Result<bool> {
        match self {
            Self::Here(changes) => Ok(changes.changed().await.is_ok()),
            Self::There { view, ended, dir } => tokio::select! {
                changed = view.changed() => changed.map(|()| true),
                () = ended => {
                    written(dir).await;
                    Ok(false)
                }
            },
        }
    }
}

/// Waits until no process has the log in a directory open, for a bounded time.
async fn written(dir: &Path) {
    let until = Instant::now() + REST;
    while Instant::now() < until {
        let lock = std::fs::File::open(dir).and_then(FileLock::exclusive);
        if !matches!(lock, Ok(None)) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl LogReader {
    pub(super) fn new(cursor: Cursor, follow: Option<Follow>, until: Option<SystemTime>) -> Self {
        Self {
            cursor: Some(cursor),
            follow,
            until,
        }
    }

    /// The next entries, at least one; `None` after the last one. A reader that follows waits for entries until the
    /// container has ended, or the last moment that was asked for is over.
    ///
    /// # Errors
    /// Those of the file system.
    ///
    /// # Cancellation
    /// Not safe to drop and call again.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<LogEntry>>> {
        loop {
            if let Some(follow) = &mut self.follow {
                follow.look();
            }
            let Some(mut cursor) = self.cursor.take() else {
                return Ok(None);
            };
            // A file system may block whoever reads it.
            let read = tokio::task::spawn_blocking(move || (cursor.read(), cursor));
            let (entries, cursor) = read.await.map_err(io::Error::other)?;
            let (entries, is_over) = (entries?, cursor.is_over());
            self.cursor = Some(cursor).filter(|_| !is_over);
            if !entries.is_empty() {
                return Ok(Some(entries));
            }
            let Some(follow) = &mut self.follow else {
                return Ok(None);
            };
            let left = self
                .until
                .map(|until| until.duration_since(clock::now()).unwrap_or_default());
            let goes_on = match left {
                None => follow.changed().await?,
                Some(left) => tokio::time::timeout(left, follow.changed())
                    .await
                    .unwrap_or(Ok(false))?,
            };
            if !goes_on {
                // One more look finds what was written last.
                self.follow = None;
            }
        }
    }
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader").finish_non_exhaustive()
    }
}
