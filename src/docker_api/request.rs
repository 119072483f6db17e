//! A request as a handler reads it.

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, UPGRADE};
use hyper::{Method, StatusCode};

use super::json::Object;
use super::query::Query;
use super::refused::Refused;
use super::version::ApiVersion;
use crate::Context;

/// The largest body that is read before a request is answered, in bytes.
const LONGEST: usize = 8 << 20;

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// The path without its version, still escaped.
    pub(super) path: String,
    pub(super) version: ApiVersion,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) body: Payload,
    /// Cancelled when the client has closed its side of the connection, and when the server ends.
    pub(super) client: Context,
}

impl Request {
    /// A header's text; empty if it is missing or is no text.
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether the client asks to take the connection over.
    pub(super) fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(UPGRADE)
    }

    /// Whether the body has more than a few bytes that say nothing, such as `{}` and `null`.
    pub(super) fn has_body(&self) -> bool {
        const NOTHING: usize = 7;

        matches!(&self.body, Payload::Read(bytes) if bytes.len() > NOTHING)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// Status 400 if it is not called JSON, or is none.
    pub(super) fn json(&self) -> Result<Object, Refused> {
        let given = self.header(CONTENT_TYPE.as_str()).to_owned();
        let essence = given.split(';').next().unwrap_or_default().trim();
        if essence.is_empty() {
            return Err(Refused::bad(format!(
                "malformed Content-Type header ({given}): mime: no media type"
            )));
        }
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Refused::bad(format!(
                "unsupported Content-Type header ({given}): must be 'application/json'"
            )));
        }
        match &self.body {
            Payload::Read(bytes) => Object::of_body(bytes),
            Payload::Streamed(_) => Err(Refused::failed("the body of the request was not read")),
        }
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) enum Payload {
    /// It was read before the handler was called. A client that is still sending when the connection is closed takes
    /// that for a failure of the connection, and does not read the answer.
    Read(Bytes),
    /// It is an archive, which the handler reads.
    Streamed(Incoming),
}

impl Payload {
    /// Reads a body to its end.
    ///
    /// # Errors
    /// Status 413 if it is too long, 400 if the client breaks off.
    pub(super) async fn read(body: Incoming) -> Result<Self, Refused> {
        match Limited::new(body, LONGEST).collect().await {
            Ok(body) => Ok(Self::Read(body.to_bytes())),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Refused::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body of the request is longer than {LONGEST} bytes"),
            )),
            Err(error) => Err(Refused::bad(format!(
                "cannot read the body of the request: {error}"
            ))),
        }
    }
}
