//! The files of a log: the current one, and those that it was before, by age: `NAME`, `NAME.1`, `NAME.2` … with `.gz` if
//! they are compressed. The names, and when a file is full, are Docker's.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};

use crate::file_lock::FileLock;

/// How often, and how long apart, the lock of a directory is tried.
const LOCK_TRIES: usize = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How large a log grows, and what becomes of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rotation {
    /// The size in bytes at which a file is full; `None` if none ever is.
    pub(crate) max_size: Option<u64>,
    /// How many files there are at most, the current one included; at least 1, with which a full file is emptied.
    pub(crate) max_files: u32,
    /// Whether all but the current one are compressed.
    pub(crate) compress: bool,
}

impl Default for Rotation {
    /// One file, without a limit.
    fn default() -> Self {
        Self {
            max_size: None,
            max_files: 1,
            compress: false,
        }
    }
}

/// The paths of a log's files.
#[derive(Debug, Clone)]
pub(super) struct Names(pub(super) PathBuf);

impl Names {
    pub(super) fn current(&self) -> &Path {
        &self.0
    }

    /// The file of that age, from 1 on.
    pub(super) fn plain(&self, age: u32) -> PathBuf {
        self.with(&format!(".{age}"))
    }

    pub(super) fn compressed(&self, age: u32) -> PathBuf {
        self.with(&format!(".{age}.gz"))
    }

    /// Locks the directory of the files. `None` if that cannot be, or another process has it for too long.
    fn lock(&self) -> Option<FileLock> {
        let dir = self.current().parent()?;
        for _ in 0..LOCK_TRIES {
            match File::open(dir).and_then(FileLock::exclusive) {
                Ok(None) => std::thread::sleep(LOCK_PAUSE),
                Ok(lock) => return lock,
                Err(error) => {
                    tracing::debug!(dir = %dir.display(), %error, "cannot lock a log");
                    return None;
                }
            }
        }
        tracing::warn!(dir = %dir.display(), "two processes write a log at the same time");
        None
    }

    /// Whether a process has the files open.
    pub(super) fn are_open(dir: &Path) -> bool {
        let lock = File::open(dir).and_then(FileLock::shared);
        matches!(lock, Ok(None))
    }

    fn with(&self, end: &str) -> PathBuf {
        let mut name = self.0.clone().into_os_string();
        name.push(end);
        name.into()
    }
}

/// The writer of a log's files. Every call may block as long as the file system does.
#[derive(Debug)]
pub(super) struct Files {
    names: Names,
    rotation: Rotation,
    current: File,
    size: u64,
    /// Whether the file ends in the middle of an entry.
    is_cut: bool,
    /// The compression of the newest of the other files.
    compressing: Option<std::thread::JoinHandle<()>>,
    /// Shows other processes that the files are open. `None` if that cannot be.
    _lock: Option<FileLock>,
}

impl Files {
    /// Makes the directory of a new log and its current file, without anything that an earlier log has left there.
    pub(super) fn make(names: &Names) -> io::Result<()> {
        if let Some(dir) = names.current().parent() {
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        opened(names.current()).map(drop)
    }

    /// Opens the current file for appending. Another process that has the log open is waited for, for a bounded time.
    pub(super) fn open(names: Names, rotation: Rotation) -> io::Result<Self> {
        let lock = names.lock();
        let current = opened(names.current())?;
        let size = current.metadata()?.len();
        Ok(Self {
            is_cut: size > 0 && !ends_a_line(names.current(), size)?,
            names,
            rotation,
            current,
            size,
            compressing: None,
            _lock: lock,
        })
    }

    /// Appends whole entries, each of which ends with the only newline in it. If this fails, a part may be written.
    pub(super) fn append(&mut self, mut entries: &[u8]) -> io::Result<()> {
        while !entries.is_empty() {
            let room = match self.rotation.max_size {
                None => u64::MAX,
                Some(max) if self.size < max => max - self.size,
                // As long as the file before is being compressed, this one grows.
                Some(_) if self.is_compressing() => u64::MAX,
                Some(max) => match self.rotate() {
                    Ok(()) => max,
                    Err(error) => {
                        tracing::debug!(path = %self.names.current().display(), %error, "a full file of a log is not rotated yet");
                        u64::MAX
                    }
                },
            };
            // As many as begin before the file is full.
            let (now, rest) = entries.split_at(end_of(entries, room));
            self.write(now)?;
            entries = rest;
        }
        Ok(())
    }

    fn write(&mut self, entries: &[u8]) -> io::Result<()> {
        // A part of an entry would spoil the next one. It stays, as readers may have read it.
        if std::mem::replace(&mut self.is_cut, true) {
            self.current.write_all(b"\n")?;
            self.size += 1;
        }
        self.current.write_all(entries)?;
        self.is_cut = false;
        self.size += entries.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let Rotation {
            max_files, compress, ..
        } = self.rotation;
        if max_files <= 1 {
            self.current.set_len(0)?;
            (self.size, self.is_cut) = (0, false);
            return Ok(());
        }
        // Before anything is renamed: if there cannot be a new file, the old ones stay what they are.
        let unused = self.names.with(".new");
        let next = opened(&unused)?;
        // Either form may be there: the options may have been others, or a compression was cut short.
        for path in [
            self.names.plain(max_files - 1),
            self.names.compressed(max_files - 1),
        ] {
            remove(&path)?;
        }
        for age in (1..max_files - 1).rev() {
            rename(&self.names.plain(age), &self.names.plain(age + 1))?;
            rename(&self.names.compressed(age), &self.names.compressed(age + 1))?;
        }
        rename(self.names.current(), &self.names.plain(1))?;
        fs::rename(&unused, self.names.current())?;
        (self.current, self.size, self.is_cut) = (next, 0, false);
        if compress {
            let names = self.names.clone();
            let compress = move || {
                if let Err(error) = compressed(&names) {
                    tracing::warn!(path = %names.plain(1).display(), %error, "a file of a log stays uncompressed");
                }
            };
            // Takes as long as the file is large; the log goes on meanwhile.
            let thread = std::thread::Builder::new().name("log-compression".to_owned());
            self.compressing = thread.spawn(compress).ok();
        }
        Ok(())
    }

    /// Waits for the compression of the file before.
    pub(super) fn settle(&mut self) {
        if let Some(compressing) = self.compressing.take() {
            // It has told what has failed.
            drop(compressing.join());
        }
    }

    fn is_compressing(&self) -> bool {
        self.compressing
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Files {
    /// Waits for the compression: the next writer of the log renames what it reads.
    fn drop(&mut self) {
        self.settle();
    }
}

/// Where the first entry ends at or after `room`, or the last one before.
fn end_of(entries: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if entries.len() <= room {
        return entries.len();
    }
    let from = room.saturating_sub(1);
    let newline = entries.iter().skip(from).position(|byte| *byte == b'\n');
    newline.map_or(entries.len(), |at| from + at + 1)
}

fn ends_a_line(path: &Path, size: u64) -> io::Result<bool> {
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, size - 1)?;
    Ok(last == *b"\n")
}

fn opened(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        // As Docker: for those who collect logs, a group can be given by the directory.
        .mode(0o640)
        .open(path)
}

/// Which file it is: its device and inode. No other file has them as long as one of its readers has it open. Compressing
/// notes them in the result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }

    /// The form in which a compressed file has it.
    fn noted(self) -> [u8; 16] {
        let both = u128::from(self.device) << 64 | u128::from(self.inode);
        both.to_be_bytes()
    }

    /// None is that of no file.
    pub(super) fn from_noted(noted: &[u8]) -> Self {
        let both = noted.try_into().map(u128::from_be_bytes).unwrap_or_default();
        Self {
            device: u64::try_from(both >> 64).unwrap_or_default(),
            inode: u64::try_from(both & u128::from(u64::MAX)).unwrap_or_default(),
        }
    }
}

fn compressed(names: &Names) -> io::Result<()> {
    let (from, to) = (names.plain(1), names.compressed(1));
    let mut plain = File::open(&from)?;
    let identity = Identity::of(&plain.metadata()?);
    // Under another name until it is whole, so that no reader takes a part for it.
    let unfinished = names.with(&format!(".gz.{}", std::process::id()));
    let mut whole = || {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(&unfinished)?;
        let mut out = GzBuilder::new()
            .extra(identity.noted())
            .write(file, Compression::fast());
        io::copy(&mut plain, &mut out)?;
        out.finish()?.sync_all()?;
        // Another process may have renamed it.
        if Identity::of(&fs::metadata(&from)?) != identity {
            return Err(io::ErrorKind::NotFound.into());
        }
        fs::rename(&unfinished, &to)?;
        fs::remove_file(&from)
    };
    whole().inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    absent_is_fine(fs::rename(from, to))
}

fn remove(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::MultiGzDecoder;
    use tempfile::TempDir;

    use super::*;

    fn files(dir: &TempDir, rotation: Rotation) -> Files {
        let names = Names(dir.path().join("c1").join("log"));
        if !names.current().exists() {
            Files::make(&names).unwrap();
        }
        Files::open(names, rotation).unwrap()
    }

    fn found(dir: &TempDir) -> Vec<(String, String)> {
        let mut all: Vec<_> = fs::read_dir(dir.path().join("c1"))
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let mut text = String::new();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                let file = File::open(&path).unwrap();
                match name.ends_with(".gz") {
                    true => MultiGzDecoder::new(file).read_to_string(&mut text).unwrap(),
                    false => (&file).read_to_string(&mut text).unwrap(),
                };
                (name, text)
            })
            .collect();
        all.sort();
        all
    }

    fn pair(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[test]
    fn a_file_is_full_after_the_entry_that_fills_it_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            max_size: Some(4),
            max_files: 3,
            compress: false,
        };
        let mut log = files(&dir, rotation);
        log.append(b"a\nb\nc\nlong\n").unwrap();
        assert_eq!(found(&dir), [pair("log", "c\nlong\n"), pair("log.1", "a\nb\n")]);
        log.append(b"d\n").unwrap();
        log.append(b"e\nf\ng\n").unwrap();
        drop(log);
        assert_eq!(
            found(&dir),
            [
                pair("log", "f\ng\n"),
                pair("log.1", "d\ne\n"),
                pair("log.2", "c\nlong\n")
            ]
        );
        // The size of what is there counts.
        let mut log = files(&dir, rotation);
        log.append(b"h\n").unwrap();
        assert_eq!(
            found(&dir),
            [
                pair("log", "h\n"),
                pair("log.1", "f\ng\n"),
                pair("log.2", "d\ne\n")
            ]
        );
    }

    #[test]
    fn a_part_of_an_entry_does_not_spoil_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        files(&dir, Rotation::default()).append(b"a\npart").unwrap();
        files(&dir, Rotation::default()).append(b"b\n").unwrap();
        assert_eq!(found(&dir), [pair("log", "a\npart\nb\n")]);
    }

    #[test]
    fn one_file_is_emptied_and_without_a_limit_nothing_goes() {
        let dir = tempfile::tempdir().unwrap();
        let one = Rotation {
            max_size: Some(4),
            ..Rotation::default()
        };
        let mut log = files(&dir, one);
        log.append(b"a\nb\nc\n").unwrap();
        assert_eq!(found(&dir), [pair("log", "c\n")]);
        let mut log = files(&dir, Rotation::default());
        log.append(b"a\nb\nc\n").unwrap();
        assert_eq!(found(&dir), [pair("log", "c\na\nb\nc\n")]);
    }

    #[test]
    fn the_others_are_compressed_and_move_on() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            max_size: Some(4),
            max_files: 3,
            compress: true,
        };
        let mut log = files(&dir, rotation);
        for entry in ["a\n", "b\n", "c\n", "d\n", "e\n"] {
            log.append(entry.as_bytes()).unwrap();
            log.settle();
        }
        drop(log);
        assert_eq!(
            found(&dir),
            [
                pair("log", "e\n"),
                pair("log.1.gz", "c\nd\n"),
                pair("log.2.gz", "a\nb\n")
            ]
        );
        // One that was not compressed, because its process ended, is not lost.
        fs::write(dir.path().join("c1/log.1"), "x\n").unwrap();
        fs::remove_file(dir.path().join("c1/log.1.gz")).unwrap();
        let mut log = files(&dir, rotation);
        log.append(b"f\ng\n").unwrap();
        drop(log);
        assert_eq!(
            found(&dir),
            [
                pair("log", "g\n"),
                pair("log.1.gz", "e\nf\n"),
                pair("log.2", "x\n")
            ]
        );
    }

    #[test]
    fn entries_are_written_as_long_as_they_begin_before_the_file_is_full() {
        for (entries, room, end) in [
            ("aa\nbb\ncc\n", 1, 3),
            ("aa\nbb\ncc\n", 3, 3),
            ("aa\nbb\ncc\n", 4, 6),
            ("aa\nbb\ncc\n", 9, 9),
            ("aa\nbb\ncc\n", 100, 9),
            ("aa\n", 1, 3),
        ] {
            assert_eq!(end_of(entries.as_bytes(), room), end, "{room}");
        }
    }
}
