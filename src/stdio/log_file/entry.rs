//! An entry of a log file: one line of JSON, byte for byte as Docker's driver `json-file` writes it. Pure.
//!
//! ```text
//! {"log":"the line\n","stream":"stdout","attrs":{"k":"v"},"time":"2026-11-23T18:50:05.519329763Z"}
//! ```
//!
//! A part of a line that is longer than [`super::pieces::LONGEST`], and the end of a stream without a newline, have no `\n`
//! in `log`. `attrs` is there only if the container's log options name any.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use serde::Deserialize;

use crate::stdio::Stream;

/// How many digits a fraction of a second has where its length is fixed.
const NANOS: usize = 9;
const HEX: [u8; 16] = *b"0123456789abcdef";

/// What all entries of one stream share.
#[derive(Debug, Clone)]
pub(super) struct Format {
    /// Everything between the text and the time.
    middle: String,
}

impl Format {
    /// `attrs` are the attributes of every entry.
    pub(super) fn new(stream: Stream, attrs: &BTreeMap<String, String>) -> Self {
        let attrs = match attrs.is_empty() {
            true => String::new(),
            // Text has no number that JSON cannot have.
            false => format!(
                "\"attrs\":{},",
                serde_json::to_string(attrs).unwrap_or_else(|_| "{}".to_owned())
            ),
        };
        let stream = stream.file_name();
        Self {
            middle: format!("\",\"stream\":\"{stream}\",{attrs}\"time\":\""),
        }
    }

    /// Writes an entry; `time` is of [`stamp`].
    pub(super) fn write(&self, out: &mut Vec<u8>, text: &[u8], ends_line: bool, time: &str) {
        out.reserve(text.len() + self.middle.len() + time.len() + 16);
        out.extend_from_slice(b"{\"log\":\"");
        escape(out, text);
        if ends_line {
            out.extend_from_slice(b"\\n");
        }
        out.extend_from_slice(self.middle.as_bytes());
        out.extend_from_slice(time.as_bytes());
        out.extend_from_slice(b"\"}\n");
    }
}

/// Escapes text as Go's encoder does, which also spares HTML. Bytes that are not UTF-8 are replaced one by one.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        escape_valid(out, chunk.valid());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_valid(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let digit = |shift: u8| {
            HEX.get(usize::from(byte >> shift & 0xf))
                .copied()
                .unwrap_or_default()
        };
        let escaped: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            0..0x20 | b'<' | b'>' | b'&' => &[b'\\', b'u', b'0', b'0', digit(4), digit(0)],
            // U+2028 and U+2029, which are no text in JavaScript.
            0xe2 if matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8])) => b"\\u2028",
            0xe2 if matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa9])) => b"\\u2029",
            _ => continue,
        };
        out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
        out.extend_from_slice(escaped);
        done = at + if byte == 0xe2 { 3 } else { 1 };
    }
    out.extend_from_slice(bytes.get(done..).unwrap_or_default());
}

/// A moment as an entry has it: RFC 3339 in UTC, with as many digits of the second as are not zero.
pub(super) fn stamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = UNIX_EPOCH + Duration::from_secs(since.as_secs());
    // Its display implements the calendar of RFC 3339.
    let whole = Timestamp::from(seconds).to_string();
    let whole = whole.trim_end_matches('Z');
    match since.subsec_nanos() {
        0 => format!("{whole}Z"),
        nanos => format!("{whole}.{}Z", format!("{nanos:09}").trim_end_matches('0')),
    }
}

/// An entry that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEntry {
    /// What was written, with its newline if it ends a line.
    pub(crate) text: String,
    pub(crate) stream: Stream,
    /// When, as the file has it.
    time: String,
    /// Attributes of the container, by name.
    attrs: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Read<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
}

impl LogEntry {
    /// Reads a line of a file; `None` if it is none of ours, such as one whose writer was killed, or part of one.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let read: Read<'_> = serde_json::from_slice(line).ok()?;
        let stream = match read.stream.as_ref() {
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            _ => return None,
        };
        Some(Self {
            text: read.log.into_owned(),
            stream,
            time: read.time.into_owned(),
            attrs: read.attrs,
        })
    }

    /// When it was written; `None` if the file does not say.
    pub(crate) fn time(&self) -> Option<SystemTime> {
        SystemTime::try_from(self.time.parse::<Timestamp>().ok()?).ok()
    }

    /// The attributes as they are shown: `name=value` with commas between them, both escaped as in a query.
    pub(crate) fn details(&self) -> String {
        let pairs = self
            .attrs
            .iter()
            .map(|(name, value)| format!("{}={}", query_escaped(name), query_escaped(value)));
        pairs.collect::<Vec<_>>().join(",")
    }

    /// The time with nine digits of the second, as it is shown.
    pub(crate) fn stamp(&self) -> String {
        let whole = self.time.trim_end_matches('Z');
        let (seconds, fraction) = whole.split_once('.').unwrap_or((whole, ""));
        format!("{seconds}.{fraction:0<NANOS$}Z")
    }
}

/// Text as Go writes it into a query.
fn query_escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &[u8], ends_line: bool) -> String {
        let mut out = Vec::new();
        let format = Format::new(Stream::Stdout, &BTreeMap::new());
        format.write(&mut out, text, ends_line, "T");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_entry_is_what_docker_writes() {
        let tail = "\",\"stream\":\"stdout\",\"time\":\"T\"}\n";
        for (text, log) in [
            (&b"plain"[..], "plain\\n"),
            (b"", "\\n"),
            (
                b"a\"b\\c\td\r\x00\x1f\x7f",
                "a\\\"b\\\\c\\u0009d\\r\\u0000\\u001f\x7f\\n",
            ),
            (b"<a href='x'>&", "\\u003ca href='x'\\u003e\\u0026\\n"),
            (
                "ä€😀\u{2028}\u{2029}\u{2030}".as_bytes(),
                "ä€😀\\u2028\\u2029\u{2030}\\n",
            ),
            (b"\xff\xfea\xe2\x82", "\\ufffd\\ufffda\\ufffd\\ufffd\\n"),
        ] {
            assert_eq!(
                written(text, true),
                format!("{{\"log\":\"{log}{tail}"),
                "{text:?}"
            );
        }
        assert_eq!(written(b"part", false), format!("{{\"log\":\"part{tail}"));
        let attrs = [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())];
        let (mut out, format) = (Vec::new(), Format::new(Stream::Stderr, &attrs.into()));
        format.write(&mut out, b"x", true, "T");
        let with =
            "{\"log\":\"x\\n\",\"stream\":\"stderr\",\"attrs\":{\"a\":\"1\",\"b\":\"2\"},\"time\":\"T\"}\n";
        assert_eq!(String::from_utf8(out).unwrap(), with);
    }

    #[test]
    fn a_moment_has_no_zeros_at_its_end_in_the_file_and_nine_digits_when_shown() {
        let at = |seconds, nanos| UNIX_EPOCH + Duration::new(seconds, nanos);
        for (moment, in_file, shown) in [
            (at(0, 0), "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000000Z"),
            (
                at(1_700_000_000, 120_000_000),
                "2023-11-14T22:13:20.12Z",
                "2023-11-14T22:13:20.120000000Z",
            ),
            (
                at(1_700_000_000, 1),
                "2023-11-14T22:13:20.000000001Z",
                "2023-11-14T22:13:20.000000001Z",
            ),
        ] {
            assert_eq!(stamp(moment), in_file);
            let line = format!("{{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"{in_file}\"}}");
            let entry = LogEntry::parse(line.as_bytes()).unwrap();
            assert_eq!((entry.stamp().as_str(), entry.time()), (shown, Some(moment)));
        }
    }

    #[test]
    fn details_are_escaped() {
        let line =
            "{\"log\":\"x\",\"stream\":\"stdout\",\"attrs\":{\"a\":\"1,b=ü\",\"c\":\"d e\"},\"time\":\"\"}";
        let entry = LogEntry::parse(line.as_bytes()).unwrap();
        assert_eq!(entry.details(), "a=1%2Cb%3D%C3%BC,c=d+e");
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for line in [
            "",
            "{",
            "{}",
            "null",
            "{\"log\":\"x\",\"stream\":\"other\"}",
            "{\"log\":1,\"stream\":\"stdout\"}",
        ] {
            assert_eq!(LogEntry::parse(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn every_text_can_be_read_again(text in ".{0,60}", ends_line: bool) {
            let read = LogEntry::parse(written(text.as_bytes(), ends_line).trim_end().as_bytes()).unwrap();
            prop_assert_eq!(read.text, format!("{text}{}", if ends_line { "\n" } else { "" }));
        }

        #[test]
        fn whatever_the_bytes_an_entry_is_one_line(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let line = written(&bytes, true);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            prop_assert!(LogEntry::parse(line.trim_end().as_bytes()).is_some());
        }
    }
}
