//! The files of a log as a reader finds them, oldest first. Every call may block as long as the file system does.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use flate2::GzHeader;
use flate2::bufread::GzDecoder;
use flate2::read::MultiGzDecoder;

pub(super) use super::files::Identity;
use super::files::Names;

/// How much is read at once.
const BLOCK: usize = 64 << 10;
/// How far the time of a file's last change may be from those of its entries.
const SLACK: Duration = Duration::from_secs(1);
/// How often the files are listed anew while they are being rotated.
const TRIES: usize = 10;

/// One file, open.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    is_compressed: bool,
}

impl Source {
    fn open(path: &Path, is_compressed: bool) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self { file, is_compressed })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which file it is, or was before it was compressed.
    pub(super) fn identity(&self) -> io::Result<Identity> {
        if self.is_compressed {
            let decoder = GzDecoder::new(BufReader::new(self.rewound()?));
            let noted = decoder.header().and_then(GzHeader::extra);
            return Ok(noted.map(Identity::from_noted).unwrap_or_default());
        }
        Ok(Identity::of(&self.file.metadata()?))
    }

    fn rewound(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// Whether everything in it was written before a moment.
    pub(super) fn is_older_than(&self, moment: SystemTime) -> bool {
        // The kernel's time of a change may be some milliseconds behind the clock.
        let modified = self.file.metadata().and_then(|found| found.modified());
        modified.is_ok_and(|modified| modified + SLACK < moment)
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.is_compressed
    }

    /// All of it.
    pub(super) fn whole(self) -> io::Result<Section> {
        let reader = self.unpacked()?;
        Ok(Section {
            source: self,
            at: 0,
            end: None,
            reader,
        })
    }

    /// Its last `most` lines, and how many there are.
    pub(super) fn tail(self, most: u64) -> io::Result<(Section, u64)> {
        let (at, lines, reader) = match self.unpacked()? {
            None => {
                let (at, lines) = last_lines(&self.file, most)?;
                (at, lines, None)
            }
            Some(mut all) => {
                let lines = count(&mut *all)?;
                let mut reader = self.unpacked()?;
                for _ in most..lines {
                    if let Some(reader) = &mut reader {
                        reader.skip_until(b'\n')?;
                    }
                }
                (0, lines.min(most), reader)
            }
        };
        let source = self;
        let section = Section {
            source,
            at,
            end: None,
            reader,
        };
        Ok((section, lines))
    }

    /// A reader of what is compressed in it.
    fn unpacked(&self) -> io::Result<Option<Unpacked>> {
        if !self.is_compressed {
            return Ok(None);
        }
        let file = self.rewound()?;
        let reader = BufReader::with_capacity(BLOCK, MultiGzDecoder::new(file));
        Ok(Some(Box::new(reader)))
    }
}

type Unpacked = Box<dyn BufRead + Send>;

/// The part of a file that is still to be read.
pub(super) struct Section {
    pub(super) source: Source,
    /// Where it begins, in a file that is not compressed.
    at: u64,
    /// Where it ends, if that is known.
    end: Option<u64>,
    reader: Option<Unpacked>,
}

impl Section {
    /// Reads more of it; nothing at the end, where more may be written later.
    pub(super) fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let before = into.len();
        let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(self.at));
        into.resize(before + BLOCK.min(usize::try_from(left).unwrap_or(BLOCK)), 0);
        let room = into.get_mut(before..).unwrap_or_default();
        let read = loop {
            let read = match &mut self.reader {
                Some(reader) => reader.read(room),
                None => self.source.file.read_at(room, self.at),
            };
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let length = read.as_ref().copied().unwrap_or_default();
        into.truncate(before + length);
        self.at += length as u64;
        read
    }

    /// From now on, what is written later is no part of it.
    pub(super) fn ends_here(&mut self) -> io::Result<()> {
        if self.reader.is_none() {
            self.end = Some(self.source.file.metadata()?.len());
        }
        Ok(())
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.reader.is_some()
    }

    /// Whether the file was emptied since it was read. If so, it is read from its beginning.
    pub(super) fn begins_anew(&mut self) -> io::Result<bool> {
        let is_emptied = self.reader.is_none() && self.source.file.metadata()?.len() < self.at;
        if is_emptied {
            self.at = 0;
        }
        Ok(is_emptied)
    }
}

/// Every file of a log, oldest first; empty if there is none.
pub(super) fn all(names: &Names, max_files: u32) -> io::Result<Vec<Source>> {
    newer_than(names, max_files, Identity::default())
}

/// The files of a log that came after one, oldest first; all of them if that one is not there any more. None is missing or
/// there twice because it was renamed meanwhile.
pub(super) fn newer_than(names: &Names, max_files: u32, own: Identity) -> io::Result<Vec<Source>> {
    let mut found = Vec::new();
    for _ in 0..TRIES {
        let before = identity(names.current())?;
        found = newer_than_once(names, max_files, own)?;
        if identity(names.current())? == before {
            break;
        }
    }
    found.reverse();
    Ok(found)
}

fn newer_than_once(names: &Names, max_files: u32, own: Identity) -> io::Result<Vec<Source>> {
    let (mut newer, mut last) = (Vec::new(), Identity::default());
    let current = Source::open(names.current(), false)?;
    let files = std::iter::once(Ok(current)).chain((1..max_files).map(|age| of_age(names, age)));
    for source in files {
        // While files are renamed, one age may have none, and one file two ages.
        let Some(source) = source? else { continue };
        let identity = source.identity()?;
        let is_known = identity != Identity::default();
        if is_known && identity == own {
            break;
        }
        if !(is_known && identity == last) {
            newer.push(source);
        }
        last = identity;
    }
    Ok(newer)
}

/// The current file.
pub(super) fn current(names: &Names) -> io::Result<Option<Source>> {
    Source::open(names.current(), false)
}

/// The file of that age, compressed or not.
fn of_age(names: &Names, age: u32) -> io::Result<Option<Source>> {
    // While it is compressed, both may be there, and the plain one is whole.
    match Source::open(&names.plain(age), false)? {
        None => Source::open(&names.compressed(age), true),
        plain => Ok(plain),
    }
}

fn identity(path: &Path) -> io::Result<Option<Identity>> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(Identity::of(&found))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the last `most` lines of a file begin, and how many there are. What follows the last newline is no line: it is being
/// written, or its writer was killed.
fn last_lines(file: &File, most: u64) -> io::Result<(u64, u64)> {
    let size = file.metadata()?.len();
    if most == 0 {
        return Ok((size, 0));
    }
    let (mut end, mut newlines, mut block) = (size, 0, vec![0; BLOCK]);
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let length = usize::try_from(end - start).unwrap_or(BLOCK);
        let part = block.get_mut(..length).unwrap_or_default();
        match file.read_exact_at(part, start) {
            // It was emptied meanwhile.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok((0, 0)),
            read => read?,
        }
        for (at, _) in part.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The first one from the end only ends a line, each other begins one, too.
            if newlines == most {
                return Ok((start + at as u64 + 1, most));
            }
            newlines += 1;
        }
        end = start;
    }
    Ok((0, newlines))
}

fn count(reader: &mut dyn Read) -> io::Result<u64> {
    let (mut block, mut lines) = (vec![0; BLOCK], 0);
    loop {
        let read = match reader.read(&mut block) {
            Ok(0) => return Ok(lines),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let part = block.get(..read).unwrap_or_default();
        lines += part.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_last_lines_are_those_that_are_counted_from_the_end(
            lines in proptest::collection::vec(0usize..200, 0..40),
            is_cut: bool,
            most in 0u64..45,
        ) {
            let mut text: Vec<u8> = lines.iter().flat_map(|length| [vec![b'x'; *length], vec![b'\n']].concat()).collect();
            if is_cut {
                text.pop();
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&text).unwrap();
            let (start, found) = last_lines(&file, most).unwrap();
            let lines = text.split_inclusive(|byte| *byte == b'\n');
            let all: Vec<_> = lines.filter(|line| line.ends_with(b"\n")).collect();
            let skipped = all.len().saturating_sub(usize::try_from(most).unwrap());
            prop_assert_eq!(found, (all.len() - skipped) as u64);
            let before = all.iter().take(skipped).map(|line| line.len() as u64).sum::<u64>();
            prop_assert_eq!(start, if most == 0 { text.len() as u64 } else { before });
            prop_assert_eq!(count(&mut &text[..]).unwrap(), all.len() as u64);
        }
    }

    #[test]
    fn the_last_lines_of_a_large_file_are_found_in_any_block() {
        let mut file = tempfile::tempfile().unwrap();
        let line = [vec![b'x'; 50_000], vec![b'\n']].concat();
        for _ in 0..7 {
            file.write_all(&line).unwrap();
        }
        for most in 0..9u64 {
            let (start, found) = last_lines(&file, most).unwrap();
            assert_eq!((start, found), ((7 - most.min(7)) * 50_001, most.min(7)));
        }
    }
}
