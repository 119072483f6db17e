//! Lets other processes read and write the streams that this process holds: a socket in the directory of the
//! container's fifos, and beside it a lock, which the holder of the streams keeps until it ends.
//!
//! Only the owner of the directory, which has mode 0700, can reach the socket. The holder sends frames: the kind of the
//! frame, the length of its bytes (32 bits, most significant byte first), and the bytes. The reader begins with one byte,
//! its [`Wants`], and then sends input as it is. It may close its side and still read; that does not end the
//! container's input.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::backlog::{Chunk, Over, STALL, Wants};
use super::hub::Hub;
use super::input::SharedInput;
use crate::Context;
use crate::file_lock::FileLock;
use crate::stdio::Stream;

const SOCKET: &str = "attach";
const LOCK: &str = "attach.lock";
/// The longest frame, in bytes: more than the pumps read at once.
const LONGEST: usize = 1 << 20;
/// The pause after a reader could not be accepted.
const RETRY: Duration = Duration::from_millis(100);

/// The kinds of frames.
mod frame {
    /// The first frame: whether the container has an input, as one byte.
    pub(super) const HELLO: u8 = 0;
    pub(super) const STDOUT: u8 = 1;
    pub(super) const STDERR: u8 = 2;
    /// The streams have ended.
    pub(super) const ENDED: u8 = 3;
    /// The reader took nothing for too long.
    pub(super) const CUT_OFF: u8 = 4;
}

/// The exclusive right to hold a container's streams. Ends with its last clone, or with its process.
#[derive(Debug, Clone)]
pub(crate) struct StreamsLock(Arc<Held>);

#[derive(Debug)]
struct Held {
    dir: PathBuf,
    _lock: FileLock,
}

/// A reference to the right that does not keep it.
#[derive(Debug, Clone, Default)]
pub(crate) struct WeakStreamsLock(Weak<Held>);

impl WeakStreamsLock {
    /// The right, if it has not ended.
    pub(crate) fn upgrade(&self) -> Option<StreamsLock> {
        self.0.upgrade().map(StreamsLock)
    }
}

impl StreamsLock {
    /// A handle that does not keep it.
    pub(crate) fn downgrade(&self) -> WeakStreamsLock {
        WeakStreamsLock(Arc::downgrade(&self.0))
    }

    /// Takes the right to hold the streams whose fifos are in `dir`. Returns `None` if another process has it.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is no such directory.
    pub(crate) fn take(dir: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = FileLock::exclusive(options.open(dir.join(LOCK))?)?;
        let dir = dir.to_owned();
        Ok(lock.map(|_lock| Self(Arc::new(Held { dir, _lock }))))
    }

    /// Serves the streams to other processes until `life` ends. An input that is `None` belongs to this process alone.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(crate) fn serve(
        &self,
        hub: Hub,
        input: Option<SharedInput>,
        tracker: &TaskTracker,
        life: &Context,
    ) -> io::Result<()> {
        let socket = Address::of(&self.0.dir)?;
        // The socket of a holder that was killed.
        drop(std::fs::remove_file(socket.path()));
        let listener = UnixListener::bind(socket.path())?;
        std::fs::set_permissions(socket.path(), PermissionsExt::from_mode(0o600))?;
        let (hold, life, readers) = (self.clone(), life.clone(), tracker.clone());
        let serve = async move {
            // Held for as long as readers are accepted.
            let _hold = hold;
            while let Ok(accepted) = life.run(listener.accept()).await {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // For example, too many files are open. Waiting readers are accepted later.
                        tracing::warn!(%error, "cannot accept a reader of the streams");
                        let _ = life.run(tokio::time::sleep(RETRY)).await;
                        continue;
                    }
                };
                let (hub, input, life) = (hub.clone(), input.clone(), life.clone());
                let reader = async move {
                    if let Err(error) = serve_until(stream, &hub, input, &life).await {
                        tracing::debug!(%error, "a reader of the streams has left");
                    }
                };
                readers.spawn(reader.in_current_span());
            }
        };
        tracker.spawn(serve.in_current_span());
        Ok(())
    }
}

/// Serves one reader. Once `life` has ended, the reader has a while to take what is left.
async fn serve_until(
    stream: UnixStream,
    hub: &Hub,
    input: Option<SharedInput>,
    life: &Context,
) -> io::Result<()> {
    let late = async {
        life.cancelled().await;
        tokio::time::sleep(STALL).await;
    };
    tokio::select! {
        served = serve_one(stream, hub, input) => served,
        () = late => Ok(()),
    }
}

/// Serves one reader.
async fn serve_one(stream: UnixStream, hub: &Hub, input: Option<SharedInput>) -> io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let wants = wants_of(from.read_u8().await?);
    let mut listener = hub.listen(wants);
    send(&mut to, frame::HELLO, &[u8::from(input.is_some())]).await?;
    let writer = input.map(|input| input.writer(false));
    let feed = async move {
        match writer {
            Some(mut writer) => match tokio::io::copy(&mut from, &mut writer).await {
                Ok(_) => drop(writer.shutdown().await),
                // The run reads no more; the reader may still want the output.
                Err(error) => tracing::debug!(%error, "input of a reader is not taken"),
            },
            None => drop(tokio::io::copy(&mut from, &mut tokio::io::sink()).await),
        }
        // The reader sends no more; it may still read, or have left.
        while !from.ready(Interest::WRITABLE).await?.is_write_closed() {
            tokio::time::sleep(STALL).await;
        }
        Ok(())
    };
    let deliver = async move {
        loop {
            let (kind, bytes) = match listener.next().await {
                Ok(Chunk { stream, bytes }) => match stream {
                    Stream::Stderr => (frame::STDERR, bytes),
                    _ => (frame::STDOUT, bytes),
                },
                Err(Over::Ended) => (frame::ENDED, Arc::default()),
                Err(Over::CutOff) => (frame::CUT_OFF, Arc::default()),
                // The end of the connection reports it to the reader.
                Err(Over::HolderGone) => return Ok(()),
            };
            send(&mut to, kind, &bytes).await?;
            if kind == frame::ENDED || kind == frame::CUT_OFF {
                return Ok(());
            }
        }
    };
    tokio::select! {
        over = deliver => over,
        over = feed => over,
    }
}

async fn send(to: &mut OwnedWriteHalf, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let length = u32::try_from(bytes.len()).map_err(too_long)?;
    let [a, b, c, d] = length.to_be_bytes();
    to.write_all(&[kind, a, b, c, d]).await?;
    to.write_all(bytes).await
}

/// The streams of a container that another process holds.
#[derive(Debug)]
pub(crate) struct Remote {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    has_input: bool,
}

impl Remote {
    /// Connects to the holder of the streams whose fifos are in `dir`. Returns `None` if there is none.
    ///
    /// # Errors
    /// The holder refuses, or ends.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn connect(dir: &Path, wants: Wants) -> io::Result<Option<Self>> {
        let stream = async { UnixStream::connect(Address::of(dir)?.path()).await };
        let stream = match stream.await {
            Ok(stream) => stream,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                    _ => Err(error),
                };
            }
        };
        let (mut from, mut to) = stream.into_split();
        let greeted = async {
            to.write_u8(byte_of(wants)).await?;
            receive(&mut from).await
        };
        let (kind, bytes) = match greeted.await {
            Ok(greeted) => greeted,
            // The holder has just ended.
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe => Ok(None),
                    _ => Err(error),
                };
            }
        };
        if kind != frame::HELLO {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let has_input = bytes.first() == Some(&1);
        Ok(Some(Self { from, to, has_input }))
    }

    /// Whether the container's input can be written.
    pub(crate) fn has_input(&self) -> bool {
        self.has_input
    }

    /// The output, and where to write the input.
    pub(crate) fn into_parts(self) -> (RemoteListener, OwnedWriteHalf) {
        (RemoteListener(self.from), self.to)
    }
}

/// The output of a container whose streams another process holds.
#[derive(Debug)]
pub(crate) struct RemoteListener(OwnedReadHalf);

impl RemoteListener {
    /// The next part of the output.
    ///
    /// # Errors
    /// [`Over`] is the reason why there is none.
    ///
    /// # Cancellation
    /// Not safe to drop and call again: a part of a frame may have been read.
    pub(crate) async fn next(&mut self) -> Result<Chunk, Over> {
        let (kind, bytes) = receive(&mut self.0).await.map_err(|_| Over::HolderGone)?;
        let stream = match kind {
            frame::STDOUT => Stream::Stdout,
            frame::STDERR => Stream::Stderr,
            frame::ENDED => return Err(Over::Ended),
            frame::CUT_OFF => return Err(Over::CutOff),
            _ => return Err(Over::HolderGone),
        };
        let bytes = bytes.into();
        Ok(Chunk { stream, bytes })
    }
}

async fn receive(from: &mut OwnedReadHalf) -> io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await? as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok((kind, bytes))
}

fn byte_of(wants: Wants) -> u8 {
    u8::from(wants.stdout) | u8::from(wants.stderr) << 1
}

fn wants_of(byte: u8) -> Wants {
    Wants {
        stdout: byte & 1 != 0,
        stderr: byte & 2 != 0,
    }
}

/// The socket's path through a descriptor of its directory: the path itself may be longer than the 107 bytes that an
/// address of a socket holds (unix(7)).
struct Address {
    _dir: File,
    path: PathBuf,
}

impl Address {
    fn of(dir: &Path) -> io::Result<Self> {
        let dir = File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()));
        Ok(Self { _dir: dir, path })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
