//! The errors of a private containerd. Each names what the user must look at.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Interrupted;

/// Why a private containerd could not be started, shared or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::error_impl_error, reason = "it is read as embedded::Error")]
pub enum Error {
    /// A program is not on this host.
    #[error("{program} is not installed: apt-get install -y {package}")]
    NotInstalled {
        /// The program that was looked for.
        program: &'static str,
        /// The Debian package that contains the program.
        package: &'static str,
    },
    /// The kernel would refuse the socket, because its path is too long.
    #[error("the socket path {} is {len} bytes long, but at most {max} are possible: choose a shorter directory", path.display())]
    PathTooLong {
        /// The longest socket path that would be needed.
        path: PathBuf,
        /// The length of the path.
        len: usize,
        /// The longest possible length.
        max: usize,
    },
    /// The name is not UTF-8, as containerd's configuration file must be.
    #[error("the directory name {} is not UTF-8 text", path.display())]
    NotText {
        /// The directory.
        path: PathBuf,
    },
    /// No overlay could be mounted from this directory, because its name contains a separator of mount options.
    #[error(
        "the directory name {} contains {separator:?}, which separates the options of an overlay mount, so no image could be \
         mounted from it: choose another directory",
        path.display()
    )]
    Separator {
        /// The directory.
        path: PathBuf,
        /// The character.
        separator: char,
    },
    /// Other users can write to the directory, so they could control what containerd does.
    #[error("{0} is writable by others and cannot hold a private containerd: chmod go-w {0}", path.display())]
    Writable {
        /// The directory.
        path: PathBuf,
    },
    /// Another user owns the file or directory, and so could control what containerd does.
    #[error("{} belongs to user id {uid} and cannot hold a private containerd: choose another directory", path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// containerd runs where this process cannot see it, as in another container.
    #[error("the containerd that answers on {} is in another pid namespace and cannot be ended from here", socket.display())]
    OutOfReach {
        /// The socket on which it answers.
        socket: PathBuf,
    },
    /// A file or directory could not be used.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// The verb.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error that the kernel returned.
        #[source]
        cause: io::Error,
    },
    /// containerd ended before it answered.
    #[error("containerd ended while it was starting: {}", said.as_deref().unwrap_or("it wrote nothing"))]
    Died {
        /// The last line that it wrote.
        said: Option<String>,
        /// How it ended, and the path of the complete log.
        #[source]
        cause: Ended,
    },
    /// containerd runs, but does not answer.
    #[error("containerd does not answer on {} after {} s; its log is {}", socket.display(), after.as_secs(), log.display())]
    NoAnswer {
        /// The socket on which it should listen.
        socket: PathBuf,
        /// How long this process waited for an answer.
        after: Duration,
        /// The path of its log.
        log: PathBuf,
    },
    /// A process could not be inspected, signalled or awaited.
    #[error("cannot {doing} containerd (process {pid})")]
    Process {
        /// The verb.
        doing: &'static str,
        /// The process.
        pid: i32,
        /// The error that the kernel returned.
        #[source]
        cause: io::Error,
    },
    /// The caller's context ended first.
    #[error("interrupted while {doing}")]
    Interrupted {
        /// What this process was waiting for.
        doing: &'static str,
        /// Why the context ended.
        #[source]
        cause: Interrupted,
    },
}

/// How containerd ended.
#[derive(Debug, thiserror::Error)]
#[error("{status}; the whole log is {}", log.display())]
pub struct Ended {
    /// The status that the kernel reported.
    pub status: std::process::ExitStatus,
    /// The path of its log.
    pub log: PathBuf,
}

impl Error {
    pub(super) fn at(path: &Path, doing: &'static str, cause: io::Error) -> Self {
        Self::File {
            doing,
            path: path.to_owned(),
            cause,
        }
    }

    pub(super) fn interrupted(doing: &'static str) -> impl FnOnce(Interrupted) -> Self {
        move |cause| Self::Interrupted { doing, cause }
    }
}
