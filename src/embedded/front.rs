//! Quick starts and ends of containers: the program `fnctr-shim`, under the names of the shim and of its OCI runtime, first
//! on the `PATH` of a private containerd. It says itself what it does; without it, a container's life takes some 15 ms longer.

use std::env;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::search::executable;
use super::{Error, Home, private};

const PROGRAM: &str = "fnctr-shim";
/// The names under which containerd looks for its shim, and the shim for its runtime unless a container names another.
const NAMES: [&str; 2] = ["containerd-shim-runc-v2", "runc"];
const MODE: u32 = 0o700;

/// Copies the program into the home, and returns the directory for the `PATH`. `None` if this installation has no such
/// program, or nothing can be executed in the home.
///
/// A copy, because containerd remembers where it found its shim for as long as it runs, and it outlives installations.
pub(super) fn install(home: &Home) -> Option<PathBuf> {
    let program = installed(&env::current_exe().ok()?)?;
    let dir = home.shim_dir();
    match copy(&program, &dir) {
        Ok(files) if files.iter().all(|file| executable(file)) => Some(dir),
        Ok(_) => {
            // For example, the file system is mounted with noexec.
            tracing::debug!(dir = %dir.display(), "containers do not start and end quicker: nothing can be executed here");
            None
        }
        Err(error) => {
            tracing::warn!(error = %crate::chain(&error), "containers do not start and end quicker");
            None
        }
    }
}

/// The program of the installation to which `exe` belongs: beside it, or where programs lie that nobody calls by hand.
fn installed(exe: &Path) -> Option<PathBuf> {
    let dir = exe.parent()?;
    let places = [
        dir.join(PROGRAM),
        dir.parent()?.join("libexec/fnctr").join(PROGRAM),
    ];
    places.into_iter().find(|file| executable(file))
}

fn copy(program: &Path, dir: &Path) -> Result<Vec<PathBuf>, Error> {
    private::dir(dir)?;
    let new = fs::read(program).map_err(|cause| Error::at(program, "read", cause))?;
    let copied = NAMES.map(|name| copy_as(name, &new, dir));
    copied.into_iter().collect()
}

fn copy_as(name: &str, new: &[u8], dir: &Path) -> Result<PathBuf, Error> {
    let file = dir.join(name);
    if fs::read(&file).is_ok_and(|old| old == new) {
        return Ok(file);
    }
    // Renamed, because a program that is being executed cannot be written.
    let part = dir.join(format!(".{name}"));
    private::file(&part, OpenOptions::new().create(true).write(true).truncate(true))?
        .write_all(new)
        .and_then(|()| fs::set_permissions(&part, Permissions::from_mode(MODE)))
        .and_then(|()| fs::rename(&part, &file))
        .map_err(|cause| Error::at(&file, "write", cause))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_that_of_the_installation() {
        let dir = tempfile::tempdir().unwrap();
        let place = |path: &str| {
            let file = dir.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, path).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
            file
        };
        let exe = place("usr/bin/fnctr");
        assert_eq!(installed(&exe), None);
        let packaged = place("usr/libexec/fnctr/fnctr-shim");
        assert_eq!(installed(&exe), Some(packaged));
        let beside = place("usr/bin/fnctr-shim");
        assert_eq!(installed(&exe), Some(beside));
    }

    #[test]
    fn a_later_version_replaces_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let (program, home) = (dir.path().join(PROGRAM), dir.path().join("home"));
        for text in ["1", "2", "2"] {
            fs::write(&program, text).unwrap();
            for file in copy(&program, &home).unwrap() {
                assert_eq!(fs::read_to_string(&file).unwrap(), text);
                assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, MODE);
            }
            assert_eq!(fs::read_dir(&home).unwrap().count(), NAMES.len());
        }
    }
}
