//! An archive on its way between a thread that packs or unpacks it and the task of a caller.

use std::io::{self, Read, Write};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::SendTimeoutError};

/// The size of a part.
const PART: usize = 256 << 10;
/// How many parts may be on their way.
const PARTS: usize = 4;

/// How long the other side may take nothing, or give nothing: a copy holds a thread, and may keep the container from being
/// started.
const STALL: Duration = Duration::from_secs(60);

/// A part of an archive; `None` is its end.
type Part = io::Result<Option<Vec<u8>>>;

/// The parts of an archive that a thread packs.
#[derive(Debug)]
pub(crate) struct ArchiveReader {
    parts: mpsc::Receiver<Part>,
    is_over: bool,
}

impl ArchiveReader {
    /// The next part; `None` after the last one. An error ends the archive before its end.
    ///
    /// # Cancellation
    /// Safe to drop. Dropping the reader ends the packing.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        if self.is_over {
            return None;
        }
        let part = self.parts.recv().await.unwrap_or_else(|| Err(cut_off()));
        self.is_over = !matches!(part, Ok(Some(_)));
        part.transpose()
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive was cut off")
}

impl Read for BlockingReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.part.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            if self.archive.is_over {
                return Ok(0);
            }
            let part = self.archive.parts.blocking_recv();
            match part.unwrap_or_else(|| Err(cut_off()))? {
                Some(part) => self.part = io::Cursor::new(part),
                None => self.archive.is_over = true,
            }
        }
    }
}

/// An archive for a thread that reads it.
#[derive(Debug)]
pub(crate) struct BlockingReader {
    archive: ArchiveReader,
    part: io::Cursor<Vec<u8>>,
}

impl ArchiveReader {
    /// The archive for a thread that reads it and may block.
    pub(crate) fn blocking(self) -> BlockingReader {
        BlockingReader {
            archive: self,
            part: io::Cursor::default(),
        }
    }
}

/// The end of an archive that a thread writes to. Blocks while its reader is slow.
#[derive(Debug)]
pub(super) struct Sink {
    parts: mpsc::Sender<Part>,
    part: Vec<u8>,
}

/// An archive from a thread to a task.
pub(super) fn to_reader() -> (Sink, ArchiveReader) {
    let (parts, received) = mpsc::channel(PARTS);
    let part = Vec::new();
    let reader = ArchiveReader {
        parts: received,
        is_over: false,
    };
    (Sink { parts, part }, reader)
}

impl Sink {
    /// Breaks the archive off.
    pub(super) async fn fail(self, why: &str) {
        let why = Err(io::Error::other(why.to_owned()));
        drop(self.parts.send_timeout(why, STALL).await);
    }

    /// Ends the archive; without that, its reader takes it for one that was cut off.
    pub(super) async fn finish(self) {
        drop(self.parts.send_timeout(Ok(None), STALL).await);
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.capacity() == 0 {
            self.part.reserve_exact(PART);
        }
        let room = PART.saturating_sub(self.part.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.part.extend_from_slice(taken);
        if self.part.len() >= PART {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = std::mem::take(&mut self.part);
        let sent = Handle::current().block_on(self.parts.send_timeout(Ok(Some(part)), STALL));
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => {
                io::Error::new(io::ErrorKind::TimedOut, "its reader takes nothing")
            }
            SendTimeoutError::Closed(_) => io::Error::new(io::ErrorKind::BrokenPipe, "its reader has gone"),
        })
    }
}

/// What a caller gives to a thread that unpacks.
#[derive(Debug)]
pub(crate) struct ArchiveWriter(mpsc::Sender<Option<Vec<u8>>>);

impl ArchiveWriter {
    /// Gives the next part. Returns whether it is wanted: not after an error, and not after the end of the archive.
    ///
    /// # Cancellation
    /// Not safe to drop: the part may be missing then.
    pub(crate) async fn write(&self, part: Vec<u8>) -> bool {
        self.0.send(Some(part)).await.is_ok()
    }

    /// The same for a thread, which may block. Returns whether the part is wanted.
    pub(crate) fn blocking_write(&self, part: Vec<u8>) -> bool {
        self.0.blocking_send(Some(part)).is_ok()
    }

    /// Ends the archive.
    ///
    /// # Cancellation
    /// Not safe to drop: the archive counts as cut off then.
    pub(crate) async fn finish(self) {
        drop(self.0.send(None).await);
    }
}

/// The archive as the thread reads it.
#[derive(Debug)]
pub(super) struct Pieces {
    parts: mpsc::Receiver<Option<Vec<u8>>>,
    part: io::Cursor<Vec<u8>>,
    is_over: bool,
}

/// An archive from a task to a thread.
pub(super) fn from_writer() -> (ArchiveWriter, Pieces) {
    let (sent, parts) = mpsc::channel(PARTS);
    let pieces = Pieces {
        parts,
        part: io::Cursor::default(),
        is_over: false,
    };
    (ArchiveWriter(sent), pieces)
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.part.read(into)?;
            if read > 0 || self.is_over || into.is_empty() {
                return Ok(read);
            }
            let part = Handle::current().block_on(tokio::time::timeout(STALL, self.parts.recv()));
            match part {
                Ok(Some(Some(part))) => self.part = io::Cursor::new(part),
                Ok(Some(None)) => self.is_over = true,
                Ok(None) => {
                    let why = "its writer has gone before its end";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
                }
                Err(_) => {
                    let why = "its writer has given nothing for a minute";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_archive_arrives_whole_in_both_directions() {
        let bytes: Vec<u8> = (0..3 * PART + 17)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        let (mut sink, mut reader) = to_reader();
        let written = bytes.clone();
        let write = tokio::task::spawn_blocking(move || {
            sink.write_all(&written).unwrap();
            sink.flush().unwrap();
            sink
        });
        let finish = async { write.await.unwrap().finish().await };
        let read = async {
            let mut read = Vec::new();
            while let Some(part) = reader.next().await {
                read.extend_from_slice(&part.unwrap());
            }
            read
        };
        let ((), read) = tokio::join!(finish, read);
        assert!(read == bytes);
        // One that is not finished is not whole.
        let (sink, mut reader) = to_reader();
        drop(sink);
        assert!(reader.next().await.unwrap().is_err() && reader.next().await.is_none());

        let (writer, mut pieces) = from_writer();
        let read = tokio::task::spawn_blocking(move || {
            let mut read = Vec::new();
            pieces.read_to_end(&mut read).map(|_| read)
        });
        for part in bytes.chunks(1000) {
            assert!(writer.write(part.to_vec()).await);
        }
        writer.finish().await;
        assert!(read.await.unwrap().unwrap() == bytes);
    }

    #[tokio::test]
    async fn a_side_that_goes_away_is_noticed_by_the_other() {
        let (mut sink, reader) = to_reader();
        drop(reader);
        let written =
            tokio::task::spawn_blocking(move || sink.write(&vec![0; PART]).and_then(|_| sink.flush()));
        assert_eq!(
            written.await.unwrap().unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        let (writer, mut pieces) = from_writer();
        drop(writer);
        let read = tokio::task::spawn_blocking(move || pieces.read(&mut [0; 10]));
        assert_eq!(
            read.await.unwrap().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
