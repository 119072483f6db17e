//! Why files cannot be read or written.

use std::io;

use rustix::io::Errno;

/// The result of work on files.
pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

/// How many directories in each other are followed, each of which takes a descriptor.
pub(super) const DEEPEST: usize = 400;

/// How many bytes the headers of one entry may take.
pub(super) const LONGEST_HEADER: u64 = 2 << 20;

/// Why files cannot be read or written. A path is one in the container, or a name in the archive.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is read as files::Error")]
pub(crate) enum Error {
    /// There is no such file.
    #[error("there is no {path:?} in the container")]
    Missing { path: String },
    /// The process has ended whose files these are.
    #[error("its process has just ended; try again")]
    Ended,
    /// The target of a hard link in the archive is not there.
    #[error("the archive has a hard link {name:?} to {target:?}, which is not there")]
    NoTarget { name: String, target: String },
    /// An extension of an entry that nobody writes by intention.
    #[error(
        "the archive has an entry whose name and attributes take more than {} bytes",
        LONGEST_HEADER
    )]
    LongHeader,
    /// A directory was expected.
    #[error("{path:?} is not a directory")]
    NotDirectory { path: String },
    /// A mount that cannot be written to.
    #[error("{path:?} is on a file system that is mounted read-only")]
    ReadOnly { path: String },
    /// A name with too many `..`.
    #[error("the archive has an entry {name:?}, which is outside of the directory that it is unpacked into")]
    Outside { name: String },
    /// The caller forbids that one kind replaces the other.
    #[error("cannot overwrite directory {path:?} with non-directory")]
    WouldReplaceDirectory { path: String },
    /// The other way round.
    #[error("cannot overwrite non-directory {path:?} with directory")]
    WouldReplaceFile { path: String },
    /// A device would be one of the host's.
    #[error("the archive has a device, {name:?}, and devices are not unpacked")]
    Device { name: String },
    /// An entry of a kind that is not a file.
    #[error("the archive has an entry {name:?} of an unknown kind")]
    UnknownKind { name: String },
    /// The archive is compressed in a way that is not read here.
    #[error("the archive is compressed with {name}; decompress it first, as with `{program}`")]
    Foreign {
        name: &'static str,
        program: &'static str,
    },
    /// What should be an archive cannot be read to its end.
    #[error("the archive cannot be read")]
    Archive(#[source] io::Error),
    /// The reader of an archive takes no more of it.
    #[error("the archive cannot be written")]
    Sink(#[source] io::Error),
    /// Directories in directories, more than anyone makes by intention.
    #[error("{path:?} has more than {} directories in each other", DEEPEST)]
    TooDeep { path: String },
    /// The layers and mounts of a container that does not run cannot be put together.
    #[error("cannot mount the files of the container: {what}")]
    Mount {
        what: String,
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("{path:?}")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The error of a system call about a file.
    pub(super) fn of(path: impl AsRef<[u8]>, errno: Errno) -> Self {
        let path = String::from_utf8_lossy(path.as_ref()).into_owned();
        match errno {
            Errno::NOENT => Self::Missing { path },
            Errno::NOTDIR => Self::NotDirectory { path },
            Errno::ROFS => Self::ReadOnly { path },
            other => Self::Io {
                path,
                source: other.into(),
            },
        }
    }

    /// The same for an error of the standard library.
    pub(super) fn io(path: impl AsRef<[u8]>, error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => Self::of(path, errno),
            None => Self::Io {
                path: String::from_utf8_lossy(path.as_ref()).into_owned(),
                source: error,
            },
        }
    }
}
