//! An archive on its way between a thread that packs or unpacks it and the task of a caller.

use std::io::{self, Read, Write};

use tokio::sync::mpsc;

use crate::files;

/// The size of a part.
const PART: usize = 256 << 10;
/// How many parts may be on their way.
const PARTS: usize = 4;

/// The parts of an archive that a thread packs.
#[derive(Debug)]
pub(crate) struct ArchiveReader(mpsc::Receiver<io::Result<Vec<u8>>>);

impl ArchiveReader {
    /// The next part; `None` after the last one. An error ends the archive before its end.
    ///
    /// # Cancellation
    /// Safe to drop. Dropping the reader ends the packing.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        self.0.recv().await
    }
}

impl Read for BlockingReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.part.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            match self.archive.0.blocking_recv() {
                None => return Ok(0),
                Some(part) => self.part = io::Cursor::new(part?),
            }
        }
    }
}

/// The same for a thread.
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
    parts: mpsc::Sender<io::Result<Vec<u8>>>,
    part: Vec<u8>,
}

/// An archive from a thread to a task.
pub(super) fn to_reader() -> (Sink, ArchiveReader) {
    let (parts, received) = mpsc::channel(PARTS);
    let part = Vec::new();
    (Sink { parts, part }, ArchiveReader(received))
}

impl Sink {
    /// Breaks the archive off.
    pub(super) fn fail(&mut self, error: &files::Error) {
        let error = io::Error::other(crate::chain(error));
        drop(self.parts.blocking_send(Err(error)));
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
        let sent = self.parts.blocking_send(Ok(part));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "its reader has gone"))
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
            match self.parts.blocking_recv() {
                Some(Some(part)) => self.part = io::Cursor::new(part),
                Some(None) => self.is_over = true,
                None => {
                    let why = "its writer has gone before its end";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
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
        });
        let mut read = Vec::new();
        while let Some(part) = reader.next().await {
            read.extend_from_slice(&part.unwrap());
        }
        write.await.unwrap();
        assert!(read == bytes);

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
