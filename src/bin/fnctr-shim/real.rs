//! The real programs, which this one stands before.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, MemfdFlags, access, memfd_create};

/// containerd's shim.
pub(crate) const SHIM: Real = Real {
    name: "containerd-shim-runc-v2",
    passed: "FNCTR_SHIM_PASSED",
};
/// The OCI runtime.
pub(crate) const RUNC: Real = Real {
    name: "runc",
    passed: "FNCTR_RUNC_PASSED",
};

/// A program under whose name this one stands on the `PATH`.
#[derive(Debug)]
pub(crate) struct Real {
    pub(crate) name: &'static str,
    /// The environment's variable with the directories in which other copies of this program have looked on their way to
    /// the real one, so that the way ends.
    passed: &'static str,
}

impl Real {
    /// Where the program is.
    pub(crate) fn find(&self) -> io::Result<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let passed = self.passed();
        let dirs = env::split_paths(&path).chain(dir_of_containerd());
        let mut dirs = dirs.filter(|dir| !passed.contains(dir));
        let found = dirs.find(|dir| self.is_in(dir)).map(|dir| dir.join(self.name));
        found.ok_or_else(|| {
            let why = format!(
                "{} is neither on containerd's PATH nor beside containerd; install it with containerd",
                self.name
            );
            io::Error::new(io::ErrorKind::NotFound, why)
        })
    }

    /// Replaces this process by the program. Returns only if that fails. `stdin` is what was read of the input already.
    pub(crate) fn become_it(&self, args: &[OsString], stdin: Option<&[u8]>) -> io::Error {
        let run = || {
            let program = self.find()?;
            let mut command = self.command(&program, args);
            if let Some(stdin) = stdin {
                command.stdin(again(stdin)?);
            }
            let error = command.exec();
            let context = format!("cannot execute {}: {error}", program.display());
            Err::<(), _>(io::Error::new(error.kind(), context))
        };
        run().err().unwrap_or_else(|| io::ErrorKind::Other.into())
    }

    /// A call of the program, which may be another copy of this one.
    pub(crate) fn command(&self, program: &Path, args: &[OsString]) -> Command {
        let dir = program.parent().map(Path::to_owned);
        let passed = env::join_paths(self.passed().into_iter().chain(dir)).unwrap_or_default();
        let mut command = Command::new(program);
        command.args(args).env(self.passed, passed);
        command
    }

    fn passed(&self) -> Vec<PathBuf> {
        let passed = env::var_os(self.passed).unwrap_or_default();
        env::split_paths(&passed).collect()
    }

    /// Whether the directory has a program of that name that is not this one.
    fn is_in(&self, dir: &Path) -> bool {
        let identity = |file: &Path| file.metadata().ok().map(|file| (file.dev(), file.ino()));
        let program = dir.join(self.name);
        program.is_file()
            && access(&program, Access::EXEC_OK).is_ok()
            && identity(&program) != identity(Path::new("/proc/self/exe"))
    }
}

/// An input with those bytes.
pub(crate) fn again(bytes: &[u8]) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// The directory of containerd's program, in which containerd searches its shims, too.
fn dir_of_containerd() -> Option<PathBuf> {
    let exe = fs::read_link(format!("/proc/{}/exe", parent_id())).ok()?;
    // The kernel says so of a program that was replaced while it runs.
    let name = exe.file_name()?.to_str()?;
    let is_containerd = name.strip_suffix(" (deleted)").unwrap_or(name) == "containerd";
    exe.parent().filter(|_| is_containerd).map(Path::to_owned)
}
