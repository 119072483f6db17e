//! How output is divided: one byte for the stream, three zero bytes, the length (32 bits, most significant byte first), and
//! the bytes. That of a terminal has no frames.

use std::io;

use super::version::ApiVersion;
use crate::engine::Stream;

/// Without frames, or before clients distinguished the two.
pub(super) const RAW: &str = "application/vnd.docker.raw-stream";
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// The type of an answer with output in it.
pub(super) fn content_type(is_raw: bool, version: ApiVersion) -> &'static str {
    match !is_raw && version >= ApiVersion::new(1, 42) {
        true => MULTIPLEXED,
        false => RAW,
    }
}

/// The head of a frame with so many bytes.
pub(super) fn frame_head(stream: Stream, length: usize) -> io::Result<[u8; 8]> {
    let kind = match stream {
        Stream::Stderr => 2,
        _ => 1,
    };
    let [a, b, c, d] = u32::try_from(length).map_err(io::Error::other)?.to_be_bytes();
    Ok([kind, 0, 0, 0, a, b, c, d])
}
