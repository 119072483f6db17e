//! Reads the entries of a log in their order, through rotations. Every call may block as long as the file system does.

use std::collections::VecDeque;
use std::io;
use std::time::SystemTime;

use super::entry::LogEntry;
use super::files::Names;
use super::sources::{self, Section, Source};

/// Which entries are read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LogQuery {
    /// Only the last ones, this many; `None` is all. They are counted before the other conditions, as in Docker.
    pub(crate) tail: Option<u64>,
    /// Only those of this moment or later.
    pub(crate) since: Option<SystemTime>,
    /// Only those of this moment or earlier.
    pub(crate) until: Option<SystemTime>,
}

/// The longest line that may be an entry, in bytes.
const LONGEST_LINE: usize = 4 << 20;

/// A place in a log.
pub(super) struct Cursor {
    names: Names,
    max_files: u32,
    query: LogQuery,
    /// What is still to be read; the last one is the current file, to which more may be written.
    sections: VecDeque<Section>,
    /// A line of which the end is not written yet.
    begun: Vec<u8>,
    is_over: bool,
    /// Whether the current file had another name when it was last looked at.
    has_moved: bool,
    /// Whether it goes on with what is written later.
    follows: bool,
}

impl Cursor {
    /// Goes to the first entry of a query. Unless it `follows`, what is written later is no part of it.
    pub(super) fn new(names: Names, max_files: u32, query: LogQuery, follows: bool) -> io::Result<Self> {
        let mut sections = VecDeque::new();
        let mut left = query.tail;
        for source in sources::all(&names, max_files)?.into_iter().rev() {
            let is_current = sections.is_empty();
            if !is_current
                && (left == Some(0) || query.since.is_some_and(|since| source.is_older_than(since)))
            {
                break;
            }
            let is_compressed = source.is_compressed();
            let opened = match left {
                None => source.whole().map(|section| (section, 0)),
                Some(left) => source.tail(left),
            };
            match opened {
                Ok((section, lines)) => {
                    left = left.map(|left| left.saturating_sub(lines));
                    sections.push_front(section);
                }
                Err(error) if is_compressed => passed_over(&names, &error),
                Err(error) => return Err(error),
            }
        }
        let mut this = Self {
            names,
            max_files,
            query,
            sections,
            begun: Vec::new(),
            is_over: false,
            has_moved: false,
            follows,
        };
        if !follows {
            this.ends_here()?;
        }
        Ok(this)
    }

    /// From now on, what is written later is no part of it.
    pub(super) fn ends_here(&mut self) -> io::Result<()> {
        self.follows = false;
        self.sections.back_mut().map_or(Ok(()), Section::ends_here)
    }

    /// Whether no entry can follow, whatever is written.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next entries; none if no more are written yet.
    pub(super) fn read(&mut self) -> io::Result<Vec<LogEntry>> {
        let mut found = Vec::new();
        while found.is_empty() && !self.is_over {
            let read = match self.sections.front_mut() {
                None => 0,
                Some(section) => match section.read(&mut self.begun) {
                    // The others can still be read.
                    Err(error) if section.is_compressed() => {
                        passed_over(&self.names, &error);
                        0
                    }
                    read => read?,
                },
            };
            if read > 0 {
                self.parse(&mut found);
            } else if !self.go_on()? {
                break;
            }
        }
        Ok(found)
    }

    /// Reads what was read into entries.
    fn parse(&mut self, found: &mut Vec<LogEntry>) {
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else {
            if self.begun.len() > LONGEST_LINE {
                // No entry of ours: the rest of the line is none either.
                self.begun.clear();
            }
            return;
        };
        let rest = self.begun.split_off(end + 1);
        let lines = std::mem::replace(&mut self.begun, rest);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Some(entry) = LogEntry::parse(line) else {
                continue;
            };
            let LogQuery { since, until, .. } = self.query;
            let at = since.or(until).and_then(|_| entry.time());
            if at.is_some_and(|at| until.is_some_and(|until| at > until)) {
                self.is_over = true;
                return;
            }
            let is_early = at.is_some_and(|at| since.is_some_and(|since| at < since));
            if !is_early {
                found.push(entry);
            }
        }
    }

    /// Goes on to the next file; false if there is none.
    fn go_on(&mut self) -> io::Result<bool> {
        if self.sections.len() > 1 {
            self.sections.pop_front();
            // Its writer was killed in the middle of an entry.
            self.begun.clear();
            return Ok(true);
        }
        if !self.follows {
            return Ok(false);
        }
        let Some(last) = self.sections.front_mut() else {
            // Nothing was written yet.
            let current = sources::current(&self.names)?;
            self.sections.extend(current.map(Source::whole).transpose()?);
            return Ok(!self.sections.is_empty());
        };
        let own = last.source.identity()?;
        let Some(current) = sources::current(&self.names)? else {
            return Ok(false);
        };
        if current.identity()? == own {
            let is_emptied = last.begins_anew()?;
            if is_emptied {
                self.begun.clear();
            }
            return Ok(is_emptied);
        }
        // Nothing is written to a file once it has another name, but something may have been since it was read.
        if !std::mem::replace(&mut self.has_moved, true) {
            return Ok(true);
        }
        self.has_moved = false;
        self.begun.clear();
        self.sections.clear();
        for source in sources::newer_than(&self.names, self.max_files, own)? {
            self.sections.push_back(source.whole()?);
        }
        Ok(true)
    }
}

fn passed_over(names: &Names, error: &io::Error) {
    tracing::warn!(log = %names.current().display(), %error, "a compressed file of a log cannot be read, and is passed over");
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::stdio::Stream;
    use crate::stdio::log_file::entry::{Format, stamp};
    use crate::stdio::log_file::files::{Files, Rotation};

    struct Log {
        dir: tempfile::TempDir,
        rotation: Rotation,
        files: Files,
        seconds: u64,
    }

    fn opened(dir: &tempfile::TempDir, rotation: Rotation) -> Files {
        let names = Names(dir.path().join("c1/log"));
        Files::make(&names).unwrap();
        Files::open(names, rotation).unwrap()
    }

    impl Log {
        fn new(max_size: Option<u64>, max_files: u32, compress: bool) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let rotation = Rotation {
                max_size,
                max_files,
                compress,
            };
            Self {
                files: opened(&dir, rotation),
                dir,
                rotation,
                seconds: 0,
            }
        }

        /// Writes entries, a second apart.
        fn write(&mut self, texts: std::ops::Range<u64>) {
            let format = Format::new(Stream::Stdout, &Default::default());
            for text in texts {
                self.seconds += 1;
                let (mut out, at) = (Vec::new(), UNIX_EPOCH + Duration::from_secs(self.seconds));
                format.write(&mut out, text.to_string().as_bytes(), true, &stamp(at));
                self.files.append(&out).unwrap();
                self.files.settle();
            }
        }

        fn cursor(&self, query: LogQuery) -> Cursor {
            Cursor::new(
                Names(self.dir.path().join("c1/log")),
                self.rotation.max_files,
                query,
                true,
            )
            .unwrap()
        }
    }

    fn rest(cursor: &mut Cursor) -> Vec<u64> {
        let mut all = Vec::new();
        loop {
            let some = cursor.read().unwrap();
            if some.is_empty() {
                return all;
            }
            all.extend(some.iter().map(|entry| entry.text.trim().parse::<u64>().unwrap()));
        }
    }

    fn numbers(range: std::ops::Range<u64>) -> Vec<u64> {
        range.collect()
    }

    #[test]
    fn a_query_finds_its_entries_in_every_file() {
        for compress in [false, true] {
            // Some three entries fill a file.
            let mut log = Log::new(Some(180), 5, compress);
            log.write(0..13);
            let found = |query: LogQuery| rest(&mut log.cursor(query));
            let (all, at) = (LogQuery::default(), |second| {
                Some(UNIX_EPOCH + Duration::from_secs(second))
            });
            assert_eq!(found(all), numbers(0..13), "{compress}");
            for tail in 0..15 {
                let query = LogQuery {
                    tail: Some(tail),
                    ..all
                };
                let first = 13u64.saturating_sub(tail);
                assert_eq!(found(query), numbers(first..13), "{compress}");
            }
            assert_eq!(found(LogQuery { since: at(8), ..all }), numbers(7..13));
            assert_eq!(found(LogQuery { until: at(8), ..all }), numbers(0..8));
            let query = LogQuery {
                tail: Some(10),
                since: at(2),
                until: at(6),
            };
            assert_eq!(found(query), numbers(3..6));
        }
    }

    #[test]
    fn a_reader_that_waits_goes_on_through_rotations() {
        for (max_files, compress) in [(5, false), (5, true), (3, true)] {
            let mut log = Log::new(Some(180), max_files, compress);
            let mut cursor = log.cursor(LogQuery::default());
            assert!(rest(&mut cursor).is_empty());
            log.write(0..2);
            assert_eq!(rest(&mut cursor), [0, 1]);
            assert!(rest(&mut cursor).is_empty());
            // One rotation, two, and none.
            log.write(2..5);
            assert_eq!(rest(&mut cursor), numbers(2..5));
            log.write(5..11);
            assert_eq!(rest(&mut cursor), numbers(5..11), "{max_files} {compress}");
            log.write(11..12);
            assert_eq!(rest(&mut cursor), [11]);
        }
    }

    #[test]
    fn a_file_that_is_emptied_is_read_from_its_beginning_and_a_part_of_an_entry_waits_for_the_rest() {
        let mut log = Log::new(Some(180), 1, false);
        let mut cursor = log.cursor(LogQuery::default());
        log.write(0..3);
        assert_eq!(rest(&mut cursor), numbers(0..3));
        log.write(3..4);
        assert_eq!(rest(&mut cursor), [3]);
        let line = b"{\"log\":\"4\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-01T00:00:00Z\"}\nno JSON\n";
        let (first, second) = line.split_at(20);
        log.files.append(first).unwrap();
        assert!(rest(&mut cursor).is_empty());
        log.files.append(second).unwrap();
        let found = cursor.read().unwrap();
        assert_eq!(
            (found[0].text.as_str(), found[0].stream, found.len()),
            ("4\n", Stream::Stderr, 1)
        );
        assert!(rest(&mut cursor).is_empty());
    }

    #[test]
    fn a_reader_that_does_not_follow_ends_where_the_log_ended_when_it_began() {
        let mut log = Log::new(Some(180), 5, false);
        log.write(0..5);
        let names = Names(log.dir.path().join("c1/log"));
        let mut cursor = Cursor::new(names, 5, LogQuery::default(), false).unwrap();
        let mut follower = log.cursor(LogQuery::default());
        log.write(5..9);
        assert_eq!(rest(&mut cursor), numbers(0..5));
        follower.ends_here().unwrap();
        assert_eq!(rest(&mut follower), numbers(0..6));
    }

    #[test]
    fn a_compressed_file_that_is_broken_is_passed_over() {
        let mut log = Log::new(Some(180), 5, true);
        log.write(0..3);
        log.write(3..6);
        log.write(6..8);
        drop(std::mem::replace(
            &mut log.files,
            opened(&tempfile::tempdir().unwrap(), log.rotation),
        ));
        std::fs::write(log.dir.path().join("c1/log.2.gz"), "broken").unwrap();
        assert_eq!(rest(&mut log.cursor(LogQuery::default())), numbers(3..8));
        let tail = LogQuery {
            tail: Some(100),
            ..LogQuery::default()
        };
        assert_eq!(rest(&mut log.cursor(tail)), numbers(3..8));
    }

    #[test]
    fn a_log_that_was_never_written_or_is_gone_has_no_entries() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names(dir.path().join("none/log"));
        let mut cursor = Cursor::new(names, 3, LogQuery::default(), true).unwrap();
        assert!(rest(&mut cursor).is_empty());
        let mut log = Log::new(None, 1, false);
        log.write(0..2);
        let mut cursor = log.cursor(LogQuery::default());
        std::fs::remove_file(log.dir.path().join("c1/log")).unwrap();
        assert_eq!(rest(&mut cursor), [0, 1]);
    }
}
