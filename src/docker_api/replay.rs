//! Output that was kept, as a client reads it.

use std::io;

use hyper::body::Bytes;

use super::frames::frame_head;
use crate::engine::{LogEntry, LogReader, Stream, Wants};

/// Output that was kept, and how a client reads it.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) reader: LogReader,
    pub(super) wants: Wants,
    /// Whether it has no frames, as that of a terminal.
    pub(super) is_raw: bool,
    pub(super) has_times: bool,
    pub(super) has_details: bool,
}

impl Replay {
    /// The next part; `None` after the last one.
    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let entries = match self.reader.next().await {
                Ok(entries) => entries?,
                Err(error) => return Some(Err(error)),
            };
            let mut part = Vec::new();
            for entry in &entries {
                let is_wanted = match entry.stream {
                    Stream::Stderr => self.wants.stderr,
                    _ => self.wants.stdout,
                };
                if is_wanted && let Err(error) = self.show(entry, &mut part) {
                    return Some(Err(error));
                }
            }
            if !part.is_empty() {
                return Some(Ok(part.into()));
            }
        }
    }

    fn show(&self, entry: &LogEntry, part: &mut Vec<u8>) -> io::Result<()> {
        let mut before = String::new();
        if self.has_times {
            before = format!("{} ", entry.stamp());
        }
        if self.has_details {
            before = format!("{before}{} ", entry.details());
        }
        if !self.is_raw {
            part.extend(frame_head(entry.stream, before.len() + entry.text.len())?);
        }
        part.extend_from_slice(before.as_bytes());
        part.extend_from_slice(entry.text.as_bytes());
        Ok(())
    }
}
