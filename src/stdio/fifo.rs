//! The directory of fifos that a container's runtime writes to and reads from.
//!
//! Never blocks: every end opened here is non-blocking. The read ends of stdout and stderr are open before any process
//! learns the paths. So the runtime's write ends open at once, and no output is lost before a pump runs.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::net::unix::pipe;
use tokio_util::task::TaskTracker;

use super::{FifoError, Pumps, Reader, Sink, Source, Stream, Streams, StreamsLock, Writer};
use crate::Context;

/// How much a fifo can hold while its reader is busy: enough for a burst of output, and below the kernel's default
/// ceiling for unprivileged users (/proc/sys/fs/pipe-max-size).
const CAPACITY: i32 = 1 << 20;

/// The fifos of one container, and the streams that they will carry. Dropping this closes the open ends; the files stay
/// until [`Fifos::remove`].
pub(crate) struct Fifos {
    pub(super) stdin: Option<Input>,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    /// The right to hold them, if there are any.
    pub(super) hold: Option<StreamsLock>,
}

/// The fifo of standard input. Its write end cannot be opened before the runtime opens the read end.
pub(super) struct Input {
    pub(super) path: PathBuf,
    pub(super) from: Reader,
}

/// The fifo of an output stream, with its read end.
pub(super) struct Output {
    pub(super) path: PathBuf,
    pub(super) pipe: pipe::Receiver,
    /// `None` if it is left to another process.
    pub(super) to: Option<Writer>,
}

/// The paths of the fifos for the runtime. A null stream has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Paths {
    /// The fifo that the runtime reads.
    pub(crate) stdin: Option<PathBuf>,
    /// The fifo to which the runtime writes standard output.
    pub(crate) stdout: Option<PathBuf>,
    /// The fifo to which the runtime writes standard error.
    pub(crate) stderr: Option<PathBuf>,
}

impl Fifos {
    /// Creates the directory `dir`, private to this user, and in it a fifo for each stream that is not null. Replaces
    /// what a crashed process left under the same name. If all three streams are null, creates nothing.
    ///
    /// After a failure some parts may exist, so put [`Fifos::remove`] on the undo list first. Requires a running tokio
    /// runtime.
    ///
    /// # Errors
    /// [`FifoError`] names the path.
    pub(crate) fn create(dir: &Path, streams: Streams) -> Result<Self, FifoError> {
        // Before there is a fifo, so that nobody takes these streams for those of a holder that is gone.
        let hold = match streams.are_null() {
            true => None,
            false => {
                make_empty(dir)?;
                let taken = StreamsLock::take(dir).map_err(failed("lock", dir))?;
                let other = || failed("lock", dir)(io::ErrorKind::WouldBlock.into());
                Some(taken.ok_or_else(other)?)
            }
        };
        let Streams {
            stdin,
            stdout,
            stderr,
        } = streams;
        Ok(Self {
            stdin: match stdin {
                Source::Null => None,
                Source::Reader(from) => Some(Input {
                    path: make(dir, Stream::Stdin)?,
                    from,
                }),
            },
            stdout: output(dir, Stream::Stdout, stdout)?,
            stderr: output(dir, Stream::Stderr, stderr)?,
            hold,
        })
    }

    /// Takes over the fifos in `dir` that an earlier process made; `hold` is the right to do so. A stream without a
    /// fifo stays null, even if `streams` attaches it.
    ///
    /// # Errors
    /// [`FifoError`] names the path.
    pub(crate) fn reopen(dir: &Path, hold: StreamsLock, streams: Streams) -> Result<Self, FifoError> {
        let Streams {
            stdin,
            stdout,
            stderr,
        } = streams;
        Ok(Self {
            stdin: match stdin {
                Source::Reader(from) => found(dir, Stream::Stdin).map(|path| Input { path, from }),
                Source::Null => None,
            },
            stdout: reopened(dir, Stream::Stdout, stdout)?,
            stderr: reopened(dir, Stream::Stderr, stderr)?,
            hold: Some(hold),
        })
    }

    /// Whether there is a fifo for any stream in `dir`.
    pub(crate) fn are_in(dir: &Path) -> bool {
        let all = [Stream::Stdin, Stream::Stdout, Stream::Stderr];
        all.into_iter().any(|stream| found(dir, stream).is_some())
    }

    /// The paths of the fifos, for the runtime.
    pub(crate) fn paths(&self) -> Paths {
        Paths {
            stdin: self.stdin.as_ref().map(|input| input.path.clone()),
            stdout: self.stdout.as_ref().map(|output| output.path.clone()),
            stderr: self.stderr.as_ref().map(|output| output.path.clone()),
        }
    }

    /// The right to hold the streams, which the copies keep while one of them runs.
    pub(crate) fn hold(&self) -> Option<&StreamsLock> {
        self.hold.as_ref()
    }

    /// Whether there is a standard input. If so, the runtime must be notified of its end.
    pub(crate) fn has_input(&self) -> bool {
        self.stdin.is_some()
    }

    /// Starts to carry the streams, until `life` ends. Call this as soon as the task exists: from then on the runtime
    /// reads and writes.
    pub(crate) fn start(self, tracker: &TaskTracker, life: &Context) -> Pumps {
        Pumps::start(self, tracker, life)
    }

    /// Removes the directory `dir` with everything in it. Succeeds if the directory does not exist, so it can be called
    /// twice, and after a [`Fifos::create`] that failed before creating the directory. Open ends stay usable.
    ///
    /// # Errors
    /// [`FifoError`] names the path.
    pub(crate) fn remove(dir: &Path) -> Result<(), FifoError> {
        let removed = match fs::symlink_metadata(dir) {
            // remove_dir_all does not follow symbolic links, neither here nor below.
            Ok(found) if found.is_dir() => fs::remove_dir_all(dir),
            Ok(_) => fs::remove_file(dir),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", dir)(error)),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for Fifos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Fifos").field(&self.paths()).finish()
    }
}

/// Requests a large pipe. Best effort: for a user over the quota of pipe pages, the pipe keeps its size.
pub(super) fn enlarge(pipe: impl std::os::fd::AsFd) {
    if let Err(error) = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(CAPACITY)) {
        tracing::debug!(%error, "a fifo keeps its default capacity");
    }
}

fn output(dir: &Path, stream: Stream, sink: Sink) -> Result<Option<Output>, FifoError> {
    let to = match sink {
        Sink::Null => return Ok(None),
        Sink::Writer(to) => Some(to),
        Sink::Left => None,
    };
    opened(make(dir, stream)?, to).map(Some)
}

fn opened(path: PathBuf, to: Option<Writer>) -> Result<Output, FifoError> {
    let pipe = pipe::OpenOptions::new()
        .open_receiver(&path)
        .map_err(failed("open", &path))?;
    enlarge(&pipe);
    Ok(Output { path, pipe, to })
}

fn found(dir: &Path, stream: Stream) -> Option<PathBuf> {
    let path = dir.join(stream.file_name());
    let found = fs::symlink_metadata(&path);
    found
        .is_ok_and(|found| found.file_type().is_fifo())
        .then_some(path)
}

fn reopened(dir: &Path, stream: Stream, sink: Sink) -> Result<Option<Output>, FifoError> {
    match (sink, found(dir, stream)) {
        (Sink::Writer(to), Some(path)) => opened(path, Some(to)).map(Some),
        _ => Ok(None),
    }
}

fn make_empty(dir: &Path) -> Result<(), FifoError> {
    Fifos::remove(dir)?;
    let mut private = fs::DirBuilder::new();
    private.mode(0o700);
    if let Some(parent) = dir.parent() {
        private
            .recursive(true)
            .create(parent)
            .map_err(failed("create", parent))?;
    }
    // Not recursive: if this directory exists, another process uses the name, and the call must fail.
    private
        .recursive(false)
        .create(dir)
        .map_err(failed("create", dir))
}

fn make(dir: &Path, stream: Stream) -> Result<PathBuf, FifoError> {
    let path = dir.join(stream.file_name());
    match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) => Ok(path),
        Err(errno) => Err(failed("create", &path)(errno.into())),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FifoError {
    let path = path.to_owned();
    move |source| FifoError { action, path, source }
}
