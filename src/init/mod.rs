//! The program that is PID 1 in every container: it reaps orphans and forwards signals to the function.
//!
//! The program comes from the host and is mounted into images that have no libraries, so it must be statically linked.
//! This module only finds it; the engine uses it.

mod elf;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The programs that can be used, best first. Each is called as `init -- command argument...`.
const NAMES: [&str; 4] = ["tini-static", "docker-init", "catatonit", "tini"];

/// The directories in which distributions install these programs, in and beside `PATH`.
const DIRS: [&str; 8] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/libexec/docker",
    "/usr/libexec/podman",
];

/// How much of a file is read to see how it is linked: the program headers follow the ELF header.
const HEAD: u64 = 64 << 10;

/// Why there is no init for containers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitMissing {
    /// None of the known programs is on this host.
    #[error("no init for containers is on this host: apt-get install -y tini")]
    NotFound,
    /// The only such programs on this host need libraries that images may not have.
    #[error("the init {} is not statically linked, so it cannot run in every image: apt-get install -y tini", path.display())]
    Dynamic {
        /// The program that was found or configured.
        path: PathBuf,
    },
    /// The configured program cannot be used.
    #[error("the configured init {} cannot be used", path.display())]
    Unusable {
        /// The configured path.
        path: PathBuf,
        /// The error of the kernel, or that the file is not a program.
        #[source]
        cause: io::Error,
    },
}

/// Finds the init: the configured one, or the first of `tini-static`, `docker-init`, `catatonit` and `tini` that is
/// statically linked.
///
/// # Errors
/// There is no such program, or the configured one cannot run in every image.
pub fn find(configured: Option<&Path>) -> Result<PathBuf, InitMissing> {
    match configured {
        Some(path) => check(path),
        None => find_in(DIRS.map(Path::new)),
    }
}

fn check(path: &Path) -> Result<PathBuf, InitMissing> {
    let unusable = |cause| InitMissing::Unusable {
        path: path.to_owned(),
        cause,
    };
    // A bind mount needs the file, not a link to it.
    let file = path.canonicalize().map_err(unusable)?;
    rustix::fs::access(&file, rustix::fs::Access::EXEC_OK).map_err(|errno| unusable(errno.into()))?;
    match linkage(&file).map_err(unusable)? {
        Some(elf::Linkage::Static) => Ok(file),
        Some(elf::Linkage::Dynamic) => Err(InitMissing::Dynamic {
            path: path.to_owned(),
        }),
        None => Err(unusable(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not an ELF program",
        ))),
    }
}

fn find_in<'a>(dirs: impl IntoIterator<Item = &'a Path> + Clone) -> Result<PathBuf, InitMissing> {
    let mut missing = InitMissing::NotFound;
    for name in NAMES {
        for dir in dirs.clone() {
            match check(&dir.join(name)) {
                Ok(path) => return Ok(path),
                Err(dynamic @ InitMissing::Dynamic { .. }) => missing = dynamic,
                Err(_) => {}
            }
        }
    }
    Err(missing)
}

fn linkage(file: &Path) -> io::Result<Option<elf::Linkage>> {
    let mut head = Vec::new();
    File::open(file)?.take(HEAD).read_to_end(&mut head)?;
    Ok(elf::linkage(&head))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(path: &Path, bytes: &[u8]) {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_static_init_is_preferred_to_a_better_known_dynamic_one() {
        let dir = tempfile::tempdir().unwrap();
        program(&dir.path().join("docker-init"), &elf::tests::program(&[1, 3]));
        program(&dir.path().join("tini"), &elf::tests::program(&[1, 2]));
        let found = find_in([dir.path()]).unwrap();
        assert_eq!(found.file_name().unwrap(), "tini");
    }

    #[test]
    fn an_init_that_needs_libraries_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tini");
        program(&path, &elf::tests::program(&[3]));
        for found in [find(Some(&path)), find_in([dir.path()])] {
            let error = found.unwrap_err();
            assert!(
                matches!(&error, InitMissing::Dynamic { path: p } if *p == path),
                "{error}"
            );
        }
    }

    #[test]
    fn a_missing_init_names_the_package_and_a_configured_one_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let error = find_in([dir.path()]).unwrap_err();
        assert!(error.to_string().ends_with("apt-get install -y tini"));
        let wrong = dir.path().join("my-init");
        let error = find(Some(&wrong)).unwrap_err();
        assert!(
            error.to_string().contains(&wrong.display().to_string()),
            "{error}"
        );
    }

    #[test]
    fn a_script_is_no_init() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tini");
        program(&path, b"#!/bin/sh\n");
        assert!(matches!(find(Some(&path)), Err(InitMissing::Unusable { .. })));
    }
}
