//! A tar file, possibly compressed as a whole with gzip or zstd, as a catalogue of names and as a stream of bytes.
//!
//! The file is read twice, in constant memory: once for the catalogue, and once for the requested entries, in the order
//! of their positions in the file. Nothing is ever written to disk, and names in the archive are only looked up, so
//! `../../etc/passwd` or a link to it is harmless.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{self, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use super::Error;
use crate::Context;
use crate::compression::{Compression, Foreign, MAGIC};

/// The documents of an image are small. They are kept in memory in the first pass, so that a compressed file is not
/// read once for each document.
const SMALL: u64 = 256 << 10;
const ALL_SMALL: u64 = 32 << 20;
const MAX_ENTRIES: usize = 1_000_000;
const MAX_HOPS: usize = 8;
const CHUNK: usize = 256 << 10;
const BUFFER: usize = 64 << 10;

/// The position of a file's bytes in the (uncompressed) archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) size: u64,
}

#[derive(Debug)]
enum Named {
    File(Entry),
    Link(String),
}

/// The catalogue of an archive.
#[derive(Debug)]
pub(super) struct Archive {
    source: Source,
    names: HashMap<String, Named>,
    small: HashMap<Entry, Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Source {
    path: PathBuf,
    compression: Option<Compression>,
    ctx: Context,
}

impl Archive {
    /// Reads the catalogue.
    ///
    /// # Cancellation
    /// Safe to drop: the reading thread ends by itself at its next check of `ctx`.
    pub(super) async fn open(ctx: &Context, path: &Path) -> Result<Self, Error> {
        let (path, ctx) = (path.to_owned(), ctx.clone());
        let shown = path.clone();
        tokio::task::spawn_blocking(move || catalogue(&ctx, path))
            .await
            .unwrap_or_else(|panicked| {
                Err(Error::File {
                    path: shown,
                    source: io::Error::other(panicked),
                })
            })
    }

    pub(super) fn path(&self) -> &Path {
        &self.source.path
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All names, in arbitrary order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// The file of this name, after following links.
    pub(super) fn file(&self, name: &str) -> Option<Entry> {
        let mut name = normal("", name)?;
        for _ in 0..MAX_HOPS {
            match self.names.get(&name)? {
                Named::File(entry) => return Some(*entry),
                Named::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    /// The contents of a small file; `None` if there is no file of this name.
    pub(super) async fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(entry) = self.file(name) else {
            return Ok(None);
        };
        if let Some(bytes) = self.small.get(&entry) {
            return Ok(Some(bytes.clone()));
        }
        if entry.size > max {
            return Err(Error::NotAnArchive {
                path: self.source.path.clone(),
                why: format!("its {name} is larger than {max} bytes"),
            });
        }
        let mut bytes = Vec::new();
        let mut stream = self.stream(vec![entry]);
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes)
            .await
            .map_err(|source| self.source.fail(source))?;
        Ok(Some(bytes))
    }

    /// The bytes of these entries, concatenated. The entries must be in the order of their offsets.
    pub(super) fn stream(&self, entries: Vec<Entry>) -> Stream {
        let (chunks, receiver) = mpsc::channel(4);
        let source = self.source.clone();
        // The task ends when the stream is dropped, because sending then fails.
        drop(tokio::task::spawn_blocking(move || {
            if let Err(why) = pump(&source, &entries, &chunks) {
                drop(chunks.blocking_send(Err(why)));
            }
        }));
        Stream {
            receiver,
            chunk: io::Cursor::default(),
        }
    }

    pub(super) fn fail(&self, source: io::Error) -> Error {
        self.source.fail(source)
    }
}

impl Source {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let file = BufReader::with_capacity(BUFFER, File::open(&self.path)?);
        match self.compression {
            Some(compression) => compression.reader(file),
            None => Ok(Box::new(file)),
        }
    }

    /// The error that a failed read stands for.
    fn fail(&self, source: io::Error) -> Error {
        let path = self.path.clone();
        if let Some(source) = self.ctx.interrupted() {
            return Error::NotLoaded { path, source };
        }
        let why = match source.kind() {
            io::ErrorKind::UnexpectedEof => "it is truncated".to_owned(),
            io::ErrorKind::InvalidInput if self.compression.is_some() => {
                format!("it is damaged ({source})")
            }
            // The messages of the tar reader quote the invalid data that it has read, with its line breaks.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                "it is not a tar file, or a damaged one".to_owned()
            }
            _ => return Error::File { path, source },
        };
        Error::NotAnArchive { path, why }
    }
}

fn catalogue(ctx: &Context, path: PathBuf) -> Result<Archive, Error> {
    let mut source = Source {
        path,
        compression: None,
        ctx: ctx.clone(),
    };
    let unreadable = |source: &Source, why| Error::File {
        path: source.path.clone(),
        source: why,
    };
    let mut file = File::open(&source.path).map_err(|why| unreadable(&source, why))?;
    let length = file.metadata().map_err(|why| unreadable(&source, why))?.len();
    let mut head = Vec::new();
    let read = (&mut file).take(MAGIC).read_to_end(&mut head);
    read.map_err(|why| unreadable(&source, why))?;
    source.compression = Compression::of(&head);
    if let Some(Compression::Foreign(Foreign { name, program })) = source.compression {
        return Err(Error::Packed {
            path: source.path,
            name,
            program,
        });
    }
    let (mut names, mut small) = (HashMap::new(), HashMap::new());
    let scanned = if source.compression.is_some() {
        let reader = source.open().map_err(|why| source.fail(why))?;
        let mut tar = tar::Archive::new(Checked { reader, ctx });
        tar.entries()
            .and_then(|entries| scan(entries, None, &mut names, &mut small))
    } else {
        let rewound = file.seek(SeekFrom::Start(0));
        let reader = BufReader::with_capacity(BUFFER, file);
        let mut tar = tar::Archive::new(Checked { reader, ctx });
        rewound
            .and_then(|_| tar.entries_with_seek())
            .and_then(|entries| scan(entries, Some(length), &mut names, &mut small))
    };
    scanned.map_err(|why| source.fail(why))?;
    Ok(Archive { source, names, small })
}

/// Records every entry. `length` is the length of the file, where a seek beyond its end would go unnoticed.
fn scan<R: Read>(
    entries: tar::Entries<'_, R>,
    length: Option<u64>,
    names: &mut HashMap<String, Named>,
    small: &mut HashMap<Entry, Vec<u8>>,
) -> io::Result<()> {
    let mut kept = 0;
    for entry in entries {
        let mut entry = entry?;
        let at = Entry {
            offset: entry.raw_file_position(),
            size: entry.size(),
        };
        if length.is_some_and(|length| at.offset.saturating_add(at.size) > length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if names.len() >= MAX_ENTRIES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many entries"));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(name) = normal("", &name) else { continue };
        let link = entry
            .link_name_bytes()
            .map(|to| String::from_utf8_lossy(&to).into_owned());
        let kind = entry.header().entry_type();
        let target = match (kind, link) {
            (tar::EntryType::Regular | tar::EntryType::Continuous, _) => None,
            (tar::EntryType::Symlink, Some(to)) => {
                let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                normal(directory, &to)
            }
            (tar::EntryType::Link, Some(to)) => normal("", &to),
            _ => continue,
        };
        if let Some(target) = target {
            names.insert(name, Named::Link(target));
        } else if kind == tar::EntryType::Regular || kind == tar::EntryType::Continuous {
            if at.size <= SMALL && kept + at.size <= ALL_SMALL {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                kept += at.size;
                small.insert(at, bytes);
            }
            names.insert(name, Named::File(at));
        }
    }
    Ok(())
}

/// The name relative to the root of the archive, without `.` and `..`; `None` if it leads out of the archive.
fn normal(directory: &str, name: &str) -> Option<String> {
    let absolute = name.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    let from = if absolute { "" } else { directory };
    for part in from.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Sends the bytes of the entries, until the receiver is dropped.
fn pump(source: &Source, entries: &[Entry], chunks: &mpsc::Sender<io::Result<Vec<u8>>>) -> io::Result<()> {
    let mut reader = Checked {
        reader: source.open()?,
        ctx: &source.ctx,
    };
    let mut at = 0;
    for entry in entries {
        let gap = entry.offset.checked_sub(at).ok_or(io::ErrorKind::InvalidInput)?;
        let skipped = io::copy(&mut (&mut reader).take(gap), &mut io::sink())?;
        let mut left = entry.size;
        if skipped < gap {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while left > 0 {
            let mut chunk = Vec::with_capacity(CHUNK);
            let got = (&mut reader)
                .take(left.min(CHUNK as u64))
                .read_to_end(&mut chunk)?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= got as u64;
            if chunks.blocking_send(Ok(chunk)).is_err() {
                return Ok(());
            }
        }
        at = entry.offset + entry.size;
    }
    Ok(())
}

/// A reader that fails once the context has ended, because a thread cannot be cancelled from outside.
struct Checked<'a, R> {
    reader: R,
    ctx: &'a Context,
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ctx.check().map_err(io::Error::other)?;
        self.reader.read(buffer)
    }
}

impl<R: Seek> Seek for Checked<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.reader.seek(to)
    }
}

/// The receiving end of [`Archive::stream`].
#[derive(Debug)]
pub(super) struct Stream {
    receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
    chunk: io::Cursor<Vec<u8>>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let left = self.chunk.fill_buf()?;
            let count = left.len().min(buffer.remaining());
            if count > 0 || buffer.remaining() == 0 {
                buffer.put_slice(left.get(..count).unwrap_or_default());
                self.chunk.consume(count);
                return Poll::Ready(Ok(()));
            }
            match ready!(self.receiver.poll_recv(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(chunk) => self.chunk = io::Cursor::new(chunk?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leads_out_of_the_archive() {
        assert_eq!(normal("", "./a/../b//c").as_deref(), Some("b/c"));
        assert_eq!(normal("x/y", "../z/layer.tar").as_deref(), Some("x/z/layer.tar"));
        assert_eq!(normal("x", "/etc/passwd").as_deref(), Some("etc/passwd"));
        for out in ["..", "../../etc/passwd", "a/../../b", "", ".", "/"] {
            assert_eq!(normal("", out), None, "{out:?}");
        }
    }
}
