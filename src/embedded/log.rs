//! The log of containerd and its shims. Its size is limited while they run, because on most hosts it is in memory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::{Error, private};

/// A longer log is truncated after its end has been copied to `containerd.log.old`.
const LIMIT: u64 = 1 << 20;

/// How many bytes at the end of the log are searched for the last line.
const TAIL: u64 = 8 << 10;

/// Opens the log for appending. Also returns the offset at which the output of this start begins.
pub(super) fn open(path: &Path) -> Result<(File, u64), Error> {
    trim(path);
    let log = private::file(path, OpenOptions::new().create(true).append(true))?;
    let from = log
        .metadata()
        .map_err(|cause| Error::at(path, "open", cause))?
        .len();
    Ok((log, from))
}

/// Truncates a log that has become too long. containerd opened the log for appending, so it continues at the new end.
pub(super) fn trim(path: &Path) {
    match cut(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, log = %path.display(), "cannot truncate containerd's log"),
    }
}

fn cut(path: &Path) -> io::Result<()> {
    if path.metadata()?.len() <= LIMIT {
        return Ok(());
    }
    let mut log = File::options().read(true).write(true).open(path)?;
    // If another process holds the lock, it truncates the log.
    if flock(&log, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    let len = log.metadata()?.len();
    if len <= LIMIT {
        return Ok(());
    }
    let kept = keep(&mut log, len, &path.with_extension("log.old"));
    // Truncated even if the copy failed, because on a full disk the space matters more.
    log.set_len(0)?;
    kept
}

/// Copies the end of the log. Whatever is written in the meantime is lost.
fn keep(log: &mut File, len: u64, old: &Path) -> io::Result<()> {
    let options = &mut OpenOptions::new();
    let options = options.create(true).write(true).truncate(true);
    let mut old = private::file(old, options).map_err(io::Error::other)?;
    log.seek(SeekFrom::Start(len.saturating_sub(LIMIT)))?;
    io::copy(&mut log.take(LIMIT), &mut old)?;
    Ok(())
}

/// The last line that is not empty in the part of the log that begins at `from`.
pub(super) fn last_line(log: &Path, from: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let end = file.seek(SeekFrom::End(0)).ok()?;
    file.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL))))
        .ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rfind(|line| !line.trim().is_empty())?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_line_is_this_starts_and_not_an_older_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "old\n").unwrap();
        let (_, from) = open(&path).unwrap();
        assert_eq!(last_line(&path, from), None);
        fs::write(&path, "old\nfirst\nsecond\n\n").unwrap();
        assert_eq!(last_line(&path, from).as_deref(), Some("second"));
    }

    #[test]
    fn a_log_that_grew_too_long_is_cut_under_its_writer_and_its_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("containerd.log");
        let (mut writer, from) = open(&path).unwrap();
        assert_eq!(from, 0);
        writer
            .write_all(&vec![b'x'; usize::try_from(LIMIT).unwrap()])
            .unwrap();
        trim(&path);
        assert_eq!(path.metadata().unwrap().len(), LIMIT, "not one byte too many");
        writer.write_all(b"the end\n").unwrap();
        trim(&path);
        assert_eq!(path.metadata().unwrap().len(), 0);
        let old = fs::read(path.with_extension("log.old")).unwrap();
        assert_eq!(old.len() as u64, LIMIT);
        assert!(old.ends_with(b"xthe end\n"));
        writer.write_all(b"next\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"next\n");
        assert_eq!(open(&path).unwrap().1, 5);
    }

    #[test]
    fn a_log_whose_end_cannot_be_kept_is_cut_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("containerd.log");
        File::create(&path).unwrap().set_len(LIMIT + 1).unwrap();
        fs::create_dir(path.with_extension("log.old")).unwrap();
        trim(&path);
        assert_eq!(path.metadata().unwrap().len(), 0);
    }
}
