//! The two files of the log: the one that is written, and the one before it.
//!
//! Each begins with a line that numbers it, so a reader can tell whether it has missed a file.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

const NOW: &str = "events.log";
const BEFORE: &str = "events.1.log";
/// How the first line begins; the number follows.
const HEADER: &str = "fnctr-events ";

pub(super) fn now(dir: &Path) -> PathBuf {
    dir.join(NOW)
}

pub(super) fn before(dir: &Path) -> PathBuf {
    dir.join(BEFORE)
}

pub(super) fn header(number: u64) -> String {
    format!("{HEADER}{number}\n")
}

/// A file of the log, opened for reading behind its first line, and its number. `None` if there is no such file, or its
/// first line is not complete.
pub(super) fn open(path: &Path) -> io::Result<Option<(BufReader<File>, u64)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut file = BufReader::new(file);
    let mut line = String::new();
    file.read_line(&mut line)?;
    let number = line.strip_prefix(HEADER).and_then(|rest| rest.strip_suffix('\n'));
    Ok(number.and_then(|number| Some((file, number.parse().ok()?))))
}
