//! `--cidfile`: the file in which a script finds the name of the container that it has started.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use crate::cli::failure::Failure;

/// A file that this run has created. It is removed on drop unless a container's name has been written to it.
#[derive(Debug)]
pub(super) struct CidFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl CidFile {
    /// Creates the file. An existing file is a failure, because it may belong to another container.
    pub(super) fn create(path: &Option<PathBuf>) -> Result<Option<Self>, Failure> {
        let Some(path) = path else { return Ok(None) };
        let created = File::options().write(true).create_new(true).open(path);
        let file = created.map_err(|error| {
            Failure::usage(match error.kind() {
                std::io::ErrorKind::AlreadyExists => format!(
                    "--cidfile {} exists: another container may be running; remove the file, or name another",
                    path.display()
                ),
                _ => format!("cannot create --cidfile {}: {error}", path.display()),
            })
        })?;
        Ok(Some(Self {
            path: path.clone(),
            file,
            written: false,
        }))
    }

    /// Writes the name of the container, which must exist by now.
    pub(super) fn write(&mut self, id: &str) -> Result<(), Failure> {
        self.file.write_all(id.as_bytes()).map_err(|error| {
            Failure::usage(format!("cannot write --cidfile {}: {error}", self.path.display()))
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if !self.written {
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_exists_is_kept_and_one_without_a_name_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = Some(dir.path().join("cid"));
        let file = path.as_ref().unwrap();
        drop(CidFile::create(&path).unwrap());
        assert!(!file.exists());
        let mut made = CidFile::create(&path).unwrap().unwrap();
        made.write("c1").unwrap();
        drop(made);
        assert_eq!(fs::read_to_string(file).unwrap(), "c1");
        assert!(CidFile::create(&path).unwrap_err().to_string().contains("exists"));
        assert_eq!(fs::read_to_string(file).unwrap(), "c1");
        assert!(CidFile::create(&None).unwrap().is_none());
    }
}
