//! The two files of the log: the current one, which is written, and the previous one.
//!
//! The first line of each contains its number, by which a reader detects that it has missed a file.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

const NOW: &str = "events.log";
const BEFORE: &str = "events.1.log";
/// The beginning of the first line; the number follows.
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

/// Opens a file of the log for reading, after its first line, and returns it with its number. `None` if there is no
/// such file, or its first line is not complete.
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
