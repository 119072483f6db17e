//! Reads a log, and follows it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::cursor::Cursor;
use super::entry::LogEntry;
use super::files::Names;
use crate::clock;
use crate::dir_changes::{Changes, View};
use crate::stdio::logged::Wait;

/// How long the process that writes the log may take to write the rest of it when the container has ended.
const REST: Duration = Duration::from_secs(3);
/// How long the end of the container may take to be known when this process has written the last of its log.
const ENDING: Duration = Duration::from_secs(1);
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
pub(super) struct Follow {
    dir: Arc<Path>,
    changes: Notices,
    /// Completes when the container has ended; `None` if it had before.
    ended: Option<Wait>,
}

enum Notices {
    /// This process writes the log; the sender goes when it writes no more.
    Here(watch::Receiver<u64>),
    /// Another process does.
    There(View),
}

impl Follow {
    /// Follows a log that this process writes.
    pub(super) fn here(dir: &Path, changes: watch::Receiver<u64>, ended: Option<Wait>) -> Self {
        let changes = Notices::Here(changes);
        let dir = Arc::from(dir);
        Self { dir, changes, ended }
    }

    /// Follows the log of another process.
    pub(super) fn there(dir: &Path, ended: Wait) -> io::Result<Self> {
        Ok(Self {
            dir: Arc::from(dir),
            changes: Notices::There(Arc::new(Changes::of(dir)?).view()),
            ended: Some(ended),
        })
    }

    /// The reader is about to look: what has changed until now is no change any more.
    fn look(&mut self) {
        match &mut self.changes {
            Notices::Here(changes) => changes.mark_unchanged(),
            Notices::There(view) => view.look(),
        }
    }

    /// Waits for a change since the last look. Returns false if none will come.
    async fn changed(&mut self) -> io::Result<bool> {
        let view = match &mut self.changes {
            Notices::Here(changes) => {
                if changes.changed().await.is_ok() {
                    return Ok(true);
                }
                // Such as when the streams pass to another process, or this one takes them over anew.
                return self.goes_on_elsewhere().await;
            }
            Notices::There(view) => view,
        };
        let Some(ended) = &mut self.ended else {
            return Ok(false);
        };
        tokio::select! {
            changed = view.changed() => changed.map(|()| true),
            () = ended => {
                self.ended = None;
                written(&self.dir).await;
                Ok(false)
            }
        }
    }

    /// This process writes no more: goes on with whoever does, unless the container has ended.
    async fn goes_on_elsewhere(&mut self) -> io::Result<bool> {
        let Some(mut ended) = self.ended.take() else {
            return Ok(false);
        };
        if tokio::time::timeout(ENDING, &mut ended).await.is_ok() {
            return Ok(false);
        }
        *self = Self::there(&self.dir.clone(), ended)?;
        Ok(true)
    }
}

/// Waits until no process has the log in a directory open, for a bounded time.
async fn written(dir: &Path) {
    let until = Instant::now() + REST;
    // Whoever has the streams opens the log with the first entry.
    tokio::time::sleep(LOOK * 5).await;
    while Instant::now() < until && Names::are_open(dir) {
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
                // One more look finds what was written last, and nothing of a run that begins meanwhile.
                self.follow = None;
                self.cursor.as_mut().map_or(Ok(()), Cursor::ends_here)?;
            }
        }
    }
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader").finish_non_exhaustive()
    }
}
