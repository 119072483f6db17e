//! Parses the headers of answers, and the errors that registries return. Pure.

use std::io::Read as _;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Error;
use crate::Digest;
use crate::clock;
use crate::containerd::Descriptor;

/// The most bytes of an error's body that are read.
pub(super) const MAX_ERROR: u64 = 64 << 10;
/// The most characters of it that are shown.
const MAX_TOLD: usize = 300;

const CONTENT_DIGEST: &str = "docker-content-digest";

/// The error body of the distribution specification.
#[derive(Debug, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<One>,
    /// Token servers and some registries use these fields.
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    error_description: Option<String>,
}

#[derive(Debug, Deserialize)]
struct One {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The message in an error's body, in one line; empty if it contains no readable message.
pub(super) fn message(body: &[u8]) -> String {
    let said = match serde_json::from_slice::<Errors>(body) {
        Ok(said) => {
            let errors: Vec<_> = said.errors.into_iter().map(one).collect();
            let other = [said.details, said.message, said.error_description, said.error];
            if errors.is_empty() {
                other.into_iter().flatten().next().unwrap_or_default()
            } else {
                errors.join("; ")
            }
        }
        // A page of HTML comes from a proxy, and is not a message.
        Err(_) if body.trim_ascii_start().starts_with(b"<") => String::new(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let line: String = said
        .chars()
        .filter(|c| !turns_text(*c))
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_TOLD)
        .collect();
    line.trim().trim_end_matches('.').to_owned()
}

/// Whether a character is invisible and changes how the following text is displayed: direction marks, and characters of
/// width 0.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn one(error: One) -> String {
    match (error.message.trim(), error.code.trim()) {
        ("", code) => code.to_lowercase().replace('_', " "),
        (message, _) => message.to_owned(),
    }
}

/// How long the registry asks to wait: a number of seconds, or until a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = value.parse().ok().map(Duration::from_secs);
    let until = || httpdate::parse_http_date(value).ok();
    seconds.or_else(|| Some(until()?.duration_since(clock::now()).unwrap_or_default()))
}

/// The descriptor of a document, from the headers of an answer.
pub(super) fn described(headers: &HeaderMap) -> Option<Descriptor> {
    let size = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    let media_type = Some(media_type(headers)).filter(|kind| !kind.is_empty())?;
    Some(Descriptor {
        media_type,
        digest: content_digest(headers)?,
        size,
    })
}

pub(super) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    let text = headers.get(CONTENT_DIGEST)?.to_str().ok()?;
    Digest::new(text).ok()
}

/// The media type, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let text = text.unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_owned()
}

/// The content encoding of an answer, if it has one.
pub(super) fn encoding(headers: &HeaderMap) -> Option<String> {
    let said = headers
        .get(CONTENT_ENCODING)?
        .to_str()
        .ok()?
        .trim()
        .to_ascii_lowercase();
    Some(said).filter(|said| !said.is_empty() && said != "identity")
}

/// A document without its content encoding. No document begins like gzip, so if the bytes do not, they were not
/// encoded, whatever the header contains.
pub(super) fn decoded(bytes: Vec<u8>, encoding: Option<&str>, max: u64) -> Result<Vec<u8>, String> {
    match encoding {
        Some("gzip" | "x-gzip") if bytes.starts_with(&[0x1f, 0x8b]) => {
            let mut decoded = Vec::new();
            let mut reader = MultiGzDecoder::new(bytes.as_slice()).take(max + 1);
            match reader.read_to_end(&mut decoded) {
                Ok(_) if decoded.len() as u64 <= max => Ok(decoded),
                Ok(_) => Err(format!("it is larger than the {max} bytes that are allowed")),
                Err(why) => Err(format!("it is sent with gzip, and damaged: {why}")),
            }
        }
        _ => Ok(bytes),
    }
}

/// The digest of these bytes, which must be the expected one.
pub(super) fn verified(
    host: &str,
    what: &str,
    bytes: &[u8],
    expected: Option<&Digest>,
) -> Result<Digest, Error> {
    let wrong = |found: String| Error::WrongDigest {
        host: host.to_owned(),
        what: what.to_owned(),
        found,
    };
    let found = format!("sha256:{:x}", Sha256::digest(bytes));
    if expected.is_some_and(|expected| expected.as_str() != found) {
        return Err(wrong(found));
    }
    Digest::new(found.clone()).map_err(|_| wrong(found))
}

/// The offset of the first byte of an answer. A host that ignores the range sends everything.
pub(super) fn begins<B>(answer: &Response<B>, asked: u64) -> Result<u64, String> {
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(0);
    }
    let range = answer.headers().get(CONTENT_RANGE);
    let range = range.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = range
        .strip_prefix("bytes ")
        .and_then(|rest| rest.split('-').next()?.trim().parse().ok());
    match first {
        Some(first) if first == asked => Ok(first),
        _ => Err(format!("asked for bytes from {asked} on, it sent {range:?}")),
    }
}

/// Detects a wrong length before anything is read.
pub(super) fn check_length(headers: &HeaderMap, expected: u64) -> Result<(), String> {
    let length = headers.get(CONTENT_LENGTH);
    match length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok()) {
        Some(length) if length != expected => {
            let encoded = encoding(headers).map_or_else(String::new, |encoding| {
                format!(", with Content-Encoding {encoding:?}, which was not asked for")
            });
            Err(format!(
                "it has {length} bytes to send{encoded}, where the manifest says {expected}"
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_words_come_through_in_one_line() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                "manifest unknown",
            ),
            (r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, "name unknown"),
            (r#"{"errors":[{"message":"a"},{"message":"b\n"}]}"#, "a; b"),
            (
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            (
                r#"{"error":"invalid_grant","error_description":"expired"}"#,
                "expired",
            ),
            ("<html><body>Bad Gateway</body></html>", ""),
            (
                "Client sent an HTTP request to an HTTPS server.\n",
                "Client sent an HTTP request to an HTTPS server",
            ),
            ("a\u{1b}[31mred\u{202e}\u{7}", "a [31mred"),
            ("", ""),
            ("{}", ""),
        ] {
            assert_eq!(message(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(message(&[b'x'; 10_000]).len(), MAX_TOLD);
    }

    #[test]
    fn a_document_that_was_compressed_on_its_way_is_what_it_was() {
        use std::io::Write as _;
        let packed = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let json = br#"{"a":1}"#;
        for said in ["gzip", "x-gzip"] {
            assert_eq!(decoded(packed(json), Some(said), 100).unwrap(), json);
        }
        // Apache sends this header for files that are stored uncompressed.
        assert_eq!(decoded(json.to_vec(), Some("x-gzip"), 100).unwrap(), json);
        assert_eq!(decoded(packed(json), None, 100).unwrap(), packed(json));
        let bomb = decoded(packed(&[b' '; 1000]), Some("gzip"), 100).unwrap_err();
        assert_eq!(bomb, "it is larger than the 100 bytes that are allowed");
        assert!(
            decoded(packed(json)[..12].to_vec(), Some("gzip"), 100)
                .unwrap_err()
                .contains("damaged")
        );
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, "identity".parse().unwrap());
        headers.insert(CONTENT_LENGTH, "5".parse().unwrap());
        assert_eq!(encoding(&headers), None);
        let plain = check_length(&headers, 7).unwrap_err();
        assert_eq!(plain, "it has 5 bytes to send, where the manifest says 7");
        headers.insert(CONTENT_ENCODING, "GZIP".parse().unwrap());
        assert_eq!(encoding(&headers).as_deref(), Some("gzip"));
        assert!(check_length(&headers, 7).unwrap_err().contains("not asked for"));
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            headers
        };
        assert_eq!(retry_after(&headers(" 7 ")), Some(Duration::from_secs(7)));
        let in_an_hour = httpdate::fmt_http_date(clock::now() + Duration::from_secs(3600));
        let until = retry_after(&headers(&in_an_hour)).unwrap();
        assert!((3590..=3600).contains(&until.as_secs()), "{until:?}");
        assert_eq!(
            retry_after(&headers("Wed, 21 Oct 2015 07:28:00 GMT")),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after(&headers("soon")), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
