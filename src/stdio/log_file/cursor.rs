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
}

impl Cursor {
    /// Goes to the first entry of a query.
    pub(super) fn new(names: Names, max_files: u32, query: LogQuery) -> io::Result<Self> {
        let mut sections = VecDeque::new();
        let mut left = query.tail;
        for source in sources::all(&names, max_files)?.into_iter().rev() {
            let is_current = sections.is_empty();
            if !is_current
                && (left == Some(0) || query.since.is_some_and(|since| source.is_older_than(since)))
            {
                break;
            }
            let section = match &mut left {
                None => source.whole()?,
                Some(left) => {
                    let (section, lines) = source.tail(*left)?;
                    *left = left.saturating_sub(lines);
                    section
                }
            };
            sections.push_front(section);
        }
        Ok(Self {
            names,
            max_files,
            query,
            sections,
            begun: Vec::new(),
            is_over: false,
            has_moved: false,
        })
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
                Some(section) => section.read(&mut self.begun)?,
                None => 0,
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

    impl Log {
        fn new(max_size: Option<u64>, max_files: u32, compress: bool) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let rotation = Rotation {
                max_size,
                max_files,
                compress,
            };
            Self {
                files: Files::open(Names(dir.path().join("log")), rotation).unwrap(),
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
            }
        }

        fn cursor(&self, query: LogQuery) -> Cursor {
            Cursor::new(Names(self.dir.path().join("log")), self.rotation.max_files, query).unwrap()
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
    fn a_log_that_was_never_written_or_is_gone_has_no_entries() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names(dir.path().join("none/log"));
        let mut cursor = Cursor::new(names, 3, LogQuery::default()).unwrap();
        assert!(rest(&mut cursor).is_empty());
        let mut log = Log::new(None, 1, false);
        log.write(0..2);
        let mut cursor = log.cursor(LogQuery::default());
        std::fs::remove_file(log.dir.path().join("log")).unwrap();
        assert_eq!(rest(&mut cursor), [0, 1]);
    }
}
