//! The entries of one stream on their way to the files.

use std::time::Duration;

use super::backlog::{Backlog, Batch};
use super::entry::{Format, stamp};
use super::pieces::{Piece, Pieces};
use crate::clock;
use crate::stdio::logged::{StreamLog, Wait};

/// How long the last entries of a stream that has ended may take to be written.
const FLUSHING: Duration = Duration::from_secs(2);

/// How many bytes of entries are passed on together.
const BATCH: usize = 256 << 10;

/// The log of one stream.
#[derive(Debug)]
pub(super) struct FileStream {
    backlog: Backlog,
    format: Format,
    pieces: Pieces,
    /// The moment of the first part of a line that is in several entries: all of them have it.
    line_began: Option<String>,
    has_ended: bool,
}

impl FileStream {
    pub(super) fn new(backlog: Backlog, format: Format) -> Self {
        Self {
            backlog,
            format,
            pieces: Pieces::default(),
            line_began: None,
            has_ended: false,
        }
    }

    fn add(&mut self, pass: impl FnOnce(&mut Pieces, &mut dyn FnMut(Piece<'_>))) {
        let now = stamp(clock::now());
        let (format, began, backlog) = (&self.format, &mut self.line_began, &self.backlog);
        let mut batch = Batch::default();
        pass(&mut self.pieces, &mut |piece| {
            if !piece.is_continued {
                *began = None;
            }
            let time = began.as_deref().unwrap_or(&now);
            format.write(&mut batch.bytes, piece.text, piece.ends_line, time);
            batch.entries += 1;
            if !piece.ends_line {
                began.get_or_insert_with(|| now.clone());
            }
            if batch.bytes.len() > BATCH {
                backlog.push(std::mem::take(&mut batch));
            }
        });
        self.backlog.push(batch);
    }

    fn ends(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.add(|pieces, piece| pieces.end(piece));
            self.backlog.leave();
        }
    }
}

impl Drop for FileStream {
    fn drop(&mut self) {
        self.ends();
    }
}

impl StreamLog for FileStream {
    /// Even if each byte were a line with attributes, their entries would be some megabytes.
    const PIECE: usize = 4 << 10;

    fn room(&self) -> Option<Wait> {
        let backlog = &self.backlog;
        backlog.is_full().then(|| Box::pin(backlog.clone().room()) as _)
    }

    fn take(&mut self, bytes: &[u8]) {
        self.add(|pieces, piece| pieces.take(bytes, piece));
    }

    fn end(&mut self) -> Wait {
        self.ends();
        let flushed = tokio::time::timeout(FLUSHING, self.backlog.flushed());
        Box::pin(async move { drop(flushed.await) })
    }
}
