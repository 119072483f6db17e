//! Reads small kernel files: whole ones, where a missing file is a value, and open ones repeatedly without allocation.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::{Error, is_absent, is_gone};

/// Enough for nearly every kernel file. The buffer is on the stack, so that a short file costs one allocation of its
/// own size.
const ROOM: usize = 4096;

/// The text of `file` in the cgroup `dir`; `None` if the file or the cgroup does not exist, or the kernel's feature
/// behind the file is switched off.
pub(super) fn read(dir: &Path, file: &str) -> Result<Option<String>, Error> {
    match whole(&dir.join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(Error::io("read", dir, file, source)),
    }
}

/// The text of a kernel file in three system calls: open, read, close. `std::fs::read_to_string` takes six, because it
/// asks for a size that these files do not report, and reads a second and a third time to find the end.
///
/// The kernel composes such a file from records and puts as many as fit into the buffer (seq_file.rst). So a read that
/// leaves half the buffer empty has returned everything; only after a fuller one is there another read.
pub(crate) fn whole(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut room = [0; ROOM];
    let mut bytes = Vec::new();
    loop {
        let read = match file.read(&mut room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        bytes.extend_from_slice(room.get(..read).unwrap_or_default());
        if read < ROOM / 2 {
            return String::from_utf8(bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
}

/// As [`read`], for a file that contains one number.
pub(super) fn read_number(dir: &Path, file: &'static str) -> Result<Option<u64>, Error> {
    let Some(text) = read(dir, file)? else {
        return Ok(None);
    };
    match text.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Error::Unreadable {
            path: dir.join(file),
            what: "number",
        }),
    }
}

/// Opens `file` of the cgroup `dir`. The error distinguishes a missing file from a missing cgroup.
pub(super) fn open(dir: &Path, file: &'static str, write: bool, what: &'static str) -> Result<File, Error> {
    match File::options().read(true).write(write).open(dir.join(file)) {
        Ok(opened) => Ok(opened),
        Err(error) if is_gone(&error) && dir.is_dir() => Err(Error::Unsupported {
            path: dir.to_owned(),
            what,
            file,
        }),
        Err(source) => Err(Error::io("open", dir, file, source)),
    }
}

/// Reads an open file from its beginning into `buffer`. The kernel composes the text anew at offset 0, so one
/// descriptor can be read any number of times.
pub(super) fn reread<'b>(
    from: &File,
    dir: &Path,
    file: &'static str,
    buffer: &'b mut [u8],
) -> Result<&'b str, Error> {
    let length = from
        .read_at(buffer, 0)
        .map_err(|source| Error::io("read", dir, file, source))?;
    let bytes = buffer.get(..length).unwrap_or_default();
    std::str::from_utf8(bytes).map_err(|_| Error::Unreadable {
        path: dir.join(file),
        what: "text",
    })
}

/// Writes a request to an open file.
pub(super) fn rewrite(to: &File, dir: &Path, file: &'static str, text: &str) -> Result<(), Error> {
    to.write_all_at(text.as_bytes(), 0)
        .map_err(|source| Error::io("write", dir, file, source))
}

/// The number after `key` in a text of `key number` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_to_its_end_however_long_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for length in [0, 1, ROOM / 2 - 1, ROOM / 2, ROOM, ROOM + 1, 5 * ROOM] {
            let text = "x".repeat(length);
            fs::write(dir.path().join("f"), &text).unwrap();
            assert_eq!(read(dir.path(), "f").unwrap(), Some(text), "{length}");
        }
        // A kernel file of many records that is longer than the buffer and does not change.
        let crypto = Path::new("/proc/crypto");
        if let Ok(theirs) = fs::read_to_string(crypto) {
            assert_eq!(whole(crypto).unwrap(), theirs);
        }
    }

    #[test]
    fn text_that_is_no_text_is_an_error_and_not_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), b"\xff").unwrap();
        assert!(matches!(read(dir.path(), "f"), Err(Error::Io { .. })));
    }

    #[test]
    fn a_key_is_matched_whole() {
        let events = "oom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(keyed(events, "oom"), Some(3));
        assert_eq!(keyed(events, "oom_kill"), Some(2));
        assert_eq!(keyed(events, "kill"), None);
        assert_eq!(keyed("oom_kill x\n", "oom_kill"), None);
    }

    #[test]
    fn a_missing_file_and_a_missing_cgroup_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let error = open(dir.path(), "cgroup.freeze", true, "freeze").unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let error = open(&dir.path().join("x"), "cgroup.freeze", true, "freeze").unwrap_err();
        assert!(error.is_gone(), "{error}");
    }
}
