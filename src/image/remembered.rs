//! Facts about the root file systems of images that outlive the process, for commands that run one function and end:
//! without them, each command would open a view of the image, which costs four calls that write to containerd's
//! database.
//!
//! One file per chain id, which identifies the content, so the facts in a file never change; more are added. Only
//! root can read and write the directory. It lies in the run directory and does not survive a reboot. A file that cannot
//! be read or written is as good as none.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::facts::RootfsFacts;
use super::lookup::{Lookup, Place};

/// No namespace of containerd has this name: names begin with a letter or a digit.
const DIR: &str = ".image-facts";
/// The largest file, and the number of files; the run directory is memory.
const MAX_BYTES: usize = 64 << 10;
const MAX_FILES: usize = 256;

/// What is remembered of one root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sheet {
    /// The version of this crate that read the facts; another version may read others.
    version: String,
    pub(super) facts: Option<RootfsFacts>,
    /// Programs that were found, with their files.
    pub(super) programs: Vec<(Lookup, String)>,
    pub(super) places: Vec<(String, Place)>,
}

/// The directory of the files.
#[derive(Debug)]
pub(super) struct Remembered(PathBuf);

impl Remembered {
    pub(super) fn below(run_dir: &Path) -> Self {
        Self(run_dir.join(DIR))
    }

    /// What is remembered of a root file system; nothing if it cannot be read.
    pub(super) fn load(&self, chain_id: &str) -> Sheet {
        let read = fs::read(self.path(chain_id)).ok();
        let sheet: Option<Sheet> = read.and_then(|text| serde_json::from_slice(&text).ok());
        sheet
            .filter(|sheet| sheet.version == env!("CARGO_PKG_VERSION"))
            .unwrap_or_default()
    }

    /// Adds to what is remembered.
    pub(super) fn add(&self, chain_id: &str, add: impl FnOnce(&mut Sheet)) {
        let mut sheet = self.load(chain_id);
        add(&mut sheet);
        sheet.version = env!("CARGO_PKG_VERSION").to_owned();
        if let Err(error) = self.save(chain_id, &sheet) {
            tracing::debug!(%error, "cannot remember facts about an image");
        }
    }

    fn save(&self, chain_id: &str, sheet: &Sheet) -> io::Result<()> {
        let text = serde_json::to_vec(sheet)?;
        if text.len() > MAX_BYTES {
            return Ok(());
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)?;
        self.make_room()?;
        let (path, new) = (self.path(chain_id), self.0.join(crate::ids::unique()));
        let written = || {
            let mut options = fs::File::options();
            options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?
                .write_all(&text)?;
            fs::rename(&new, &path)
        };
        written().inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// Removes the file that was written longest ago if there are too many.
    fn make_room(&self) -> io::Result<()> {
        let files: Vec<_> = fs::read_dir(&self.0)?.flatten().collect();
        if files.len() < MAX_FILES {
            return Ok(());
        }
        let written = |file: &fs::DirEntry| file.metadata().and_then(|file| file.modified()).ok();
        match files.iter().min_by_key(|file| written(file)) {
            Some(oldest) => fs::remove_file(oldest.path()),
            None => Ok(()),
        }
    }

    /// A chain id is a digest; only its digits are used for a name.
    fn path(&self, chain_id: &str) -> PathBuf {
        let digits = chain_id.chars().filter(char::is_ascii_alphanumeric);
        self.0.join(format!("{}.json", digits.collect::<String>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(program: &str) -> Lookup {
        Lookup {
            program: program.to_owned(),
            path: None,
            cwd: "/".to_owned(),
            hidden: Vec::new(),
        }
    }

    #[test]
    fn what_was_added_is_there_for_the_next_process_and_nothing_of_another_version() {
        let dir = tempfile::tempdir().unwrap();
        let remembered = Remembered::below(dir.path());
        assert_eq!(remembered.load("sha256:ab"), Sheet::default());
        for program in ["sh", "true"] {
            let found = (lookup(program), format!("/bin/{program}"));
            remembered.add("sha256:ab", |sheet| sheet.programs.push(found));
        }
        let sheet = Remembered::below(dir.path()).load("sha256:ab");
        assert_eq!(sheet.programs.len(), 2);
        assert_eq!(remembered.load("sha256:cd"), Sheet::default());
        let path = remembered.path("sha256:ab");
        let older = fs::read_to_string(&path)
            .unwrap()
            .replace(env!("CARGO_PKG_VERSION"), "0.0.0");
        fs::write(&path, older).unwrap();
        assert_eq!(remembered.load("sha256:ab"), Sheet::default());
        fs::write(&path, "{").unwrap();
        assert_eq!(remembered.load("sha256:ab"), Sheet::default());
    }

    #[test]
    fn it_takes_a_bounded_part_of_memory() {
        let dir = tempfile::tempdir().unwrap();
        let remembered = Remembered::below(dir.path());
        for n in 0..MAX_FILES + 10 {
            remembered.add(&format!("sha256:{n:x}"), |_| {});
        }
        assert!(fs::read_dir(&remembered.0).unwrap().count() <= MAX_FILES);
        let long = (lookup(&"x".repeat(MAX_BYTES)), String::new());
        remembered.add("sha256:f00d", |sheet| sheet.programs.push(long));
        assert_eq!(remembered.load("sha256:f00d"), Sheet::default());
    }
}
