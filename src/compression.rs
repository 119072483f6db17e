//! How a file or a layer is compressed, recognised by its first bytes, and its uncompressed bytes. Media types and file
//! names are not used: those of images are sometimes wrong, and file names are chosen freely by users.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How many bytes are enough to recognise the compression.
pub(crate) const MAGIC: u64 = 6;
/// The largest window that a zstd frame may request: the default limit of the `zstd` command.
const MAX_WINDOW: u64 = 128 << 20;

/// The compression of a file or a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
    /// A compression that this module cannot read.
    Foreign(Foreign),
}

/// A compression that is common for archives, but that neither containerd nor this program can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// The name of the compression.
    pub(crate) name: &'static str,
    /// The command that decompresses a file to its standard output.
    pub(crate) program: &'static str,
}

const fn foreign(name: &'static str, program: &'static str) -> Compression {
    Compression::Foreign(Foreign { name, program })
}

const KNOWN: [(&[u8], Compression); 9] = [
    (&[0x1f, 0x8b], Compression::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], foreign("xz", "xz -dc")),
    (b"BZh", foreign("bzip2", "bzip2 -dc")),
    (&[0x04, 0x22, 0x4d, 0x18], foreign("lz4", "lz4 -dc")),
    (b"LZIP", foreign("lzip", "lzip -dc")),
    (&[0x5d, 0, 0, 0x80, 0], foreign("lzma", "xz -dc")),
    (&[0x1f, 0x9d], foreign("compress", "gzip -dc")),
    (b"PK\x03\x04", foreign("zip", "unzip -p")),
];

impl Compression {
    /// The compression of data that begins with `head`; `None` if it is none of the known ones.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        // A zstd stream may begin with a frame to be skipped (RFC 8878, 3.1.2).
        if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] = head {
            return Some(Self::Zstd);
        }
        let known = KNOWN.iter().find(|(magic, _)| head.starts_with(magic));
        known.map(|(_, compression)| *compression)
    }

    /// The uncompressed bytes of `packed`.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] for a compression that this module cannot read.
    pub(crate) fn reader<'a>(
        self,
        packed: impl BufRead + Send + 'a,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        match self {
            Self::Gzip => Ok(Box::new(MultiGzDecoder::new(packed))),
            Self::Zstd => Ok(Box::new(Frames::new(packed))),
            Self::Foreign(Foreign { name, .. }) => {
                let why = format!("it is compressed with {name}");
                Err(io::Error::new(io::ErrorKind::Unsupported, why))
            }
        }
    }
}

/// All frames of a zstd stream, one after the other. The decoder handles only a single frame, and layers have several:
/// one per file, so that each file can be fetched separately, and one with their table of contents, which is to be
/// skipped.
struct Frames<R> {
    packed: R,
    decoder: FrameDecoder,
    /// Whether a frame has been started and is not exhausted.
    within: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(packed: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self {
            packed,
            decoder,
            within: false,
        }
    }

    /// Starts the next frame; `false` if there is none.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.packed).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(why) => return Err(failed(why)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if !self.within {
                if !self.begin()? {
                    return Ok(0);
                }
                self.within = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder
                    .decode_blocks(&mut self.packed, one)
                    .map_err(failed)?;
            }
            match self.decoder.read(buffer)? {
                0 => self.within = false,
                got => return Ok(got),
            }
        }
        Ok(0)
    }
}

/// Returns the reader's own error if there was one. Otherwise the data that was read is not zstd.
fn failed(why: FrameDecoderError) -> io::Error {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(&why);
    while let Some(cause) = at {
        if let Some(read) = cause.downcast_ref::<io::Error>() {
            return io::Error::new(read.kind(), why);
        }
        at = cause.source();
    }
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;
    use crate::image::fixtures::{gzip, zstd};

    fn bare(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bare = Vec::new();
        let reader = Compression::of(packed).unwrap().reader(packed);
        reader?.read_to_end(&mut bare).map(|_| bare)
    }

    #[test]
    fn what_it_is_compressed_with_shows_in_its_first_bytes() {
        for (head, name) in [
            (&b"\xfd7zXZ\0"[..], "xz"),
            (b"BZh91AY&SY", "bzip2"),
            (b"\x04\x22\x4d\x18d@", "lz4"),
            (b"LZIP\x01\x0c", "lzip"),
            (b"\x5d\0\0\x80\0\xff", "lzma"),
            (b"\x1f\x9d\x90", "compress"),
            (b"PK\x03\x04\x14\0", "zip"),
        ] {
            let found = Compression::of(head);
            assert!(
                matches!(found, Some(Compression::Foreign(foreign)) if foreign.name == name),
                "{name}: {found:?}"
            );
            assert!(bare(head).unwrap_err().to_string().contains(name));
        }
        for bare in [&b"bin/\0\0"[..], b"", b"\x1f", b"{\"a\":1}"] {
            assert_eq!(Compression::of(bare), None, "{bare:?}");
        }
    }

    #[test]
    fn every_member_and_every_frame_is_read_and_what_is_to_be_skipped_is_not() {
        let text = b"a layer ".repeat(50_000);
        let gzips = [gzip(&text), gzip(b"and its end")].concat();
        let skipped = [&b"\x5a\x2a\x4d\x18\x03\0\0\0abc"[..]].concat();
        let squeezed = compress_to_vec(text.as_slice(), CompressionLevel::Fastest);
        assert!(squeezed.len() < text.len() / 2, "{}", squeezed.len());
        // Some of the frames are empty or to be skipped.
        let frames: [&[u8]; 6] = [
            &skipped,
            &squeezed,
            b"\x28\xb5\x2f\xfd\x20\0\x01\0\0",
            &skipped,
            &zstd(b"and its end"),
            &skipped,
        ];
        let frames = frames.concat();
        let expected = [&text[..], b"and its end"].concat();
        for packed in [gzips, frames] {
            assert_eq!(bare(&packed).unwrap(), expected);
        }
    }

    #[test]
    fn a_stream_that_ends_early_is_distinguished_from_a_damaged_one() {
        let text = b"a layer ".repeat(50_000);
        let frame = compress_to_vec(text.as_slice(), CompressionLevel::Fastest);
        for end in [5, 8, frame.len() - 1] {
            let why = bare(&frame[..end]).unwrap_err();
            assert_eq!(why.kind(), io::ErrorKind::UnexpectedEof, "{end}: {why}");
        }
        let why = bare(b"\x5a\x2a\x4d\x18\x03\0\0\0a").unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::UnexpectedEof, "{why}");
        let junk = [&zstd(b"x")[..], b"no frame at all"].concat();
        assert_eq!(bare(&junk).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        // A window of 2 GiB, which exceeds the limit.
        let why = bare(b"\x28\xb5\x2f\xfd\0\xa8\x01\0\0").unwrap_err();
        assert!(why.to_string().contains("indow"), "{why}");
    }
}
