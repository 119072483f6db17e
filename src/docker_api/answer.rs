//! What a handler returns: a whole answer, one whose body comes as it happens, or the connection itself.

use std::io;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::net::UnixStream;

use super::refused::Refused;
use super::version::NEWEST;

/// The body of an answer. After an error, the connection is closed, so that the client sees that the end is missing.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What a handler returns.
pub(super) enum Answer {
    /// Head and body, in the protocol's usual way.
    Http(Response<Body>),
    /// The connection is the handler's: it writes `head`, and then what it likes.
    Taken(Taken),
}

/// A connection that a handler takes over.
pub(super) struct Taken {
    /// The head of the answer, as it is written.
    pub(super) head: String,
    /// What is done with the connection; the bytes were read from it already.
    pub(super) then: Then,
}

type Then = Box<dyn FnOnce(UnixStream, Bytes) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The type of every JSON answer. With a character set, Go's older client does not read errors.
const JSON: &str = "application/json";

impl Answer {
    /// A value as JSON.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        Self::Http(json(status, value))
    }

    /// Status 200 and a value as JSON.
    pub(super) fn ok(value: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, value)
    }

    /// A status without anything else.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self::Http(with_status(status, whole(Bytes::new())))
    }

    /// Text that is not JSON.
    pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        let mut response = with_status(status, whole(text.into()));
        set(&mut response, CONTENT_TYPE, "text/plain; charset=utf-8");
        Self::Http(response)
    }

    /// Status 200, whose head is sent at once, and whose body comes part by part; an error breaks it off.
    pub(super) fn stream(
        content_type: Option<&'static str>,
        parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Self {
        let frames = parts.map(|part| part.map(Frame::data));
        let mut response = with_status(StatusCode::OK, StreamBody::new(frames).boxed_unsync());
        if let Some(content_type) = content_type {
            set(&mut response, CONTENT_TYPE, content_type);
        }
        Self::Http(response)
    }

    /// A stream of JSON, whose parts are whole lines.
    pub(super) fn json_stream(parts: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::stream(Some(JSON), parts.map(Ok))
    }

    /// The same answer with another header.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Self::Http(response) = &mut self {
            set(response, name, value);
        }
        self
    }
}

/// A value as one line of JSON.
pub(super) fn line(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let mut response = with_status(status, whole(line(value)));
    set(&mut response, CONTENT_TYPE, JSON);
    response
}

fn with_status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The answer to a request that is refused.
pub(super) fn refusal(refused: &Refused) -> Response<Body> {
    json(refused.status, &serde_json::json!({ "message": refused.message }))
}

/// The headers that every answer of a known page has.
pub(super) fn add_common(response: &mut Response<Body>) {
    for (name, value) in common() {
        set(response, HeaderName::from_static(name), &value);
    }
}

/// The same headers as lines, for a head that is written by hand.
pub(super) fn common_lines() -> String {
    let names = ["Api-Version", "Docker-Experimental", "Ostype", "Server"];
    let values = common().map(|(_, value)| value);
    names
        .iter()
        .zip(values)
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect()
}

fn common() -> [(&'static str, String); 4] {
    [
        ("api-version", NEWEST.to_string()),
        ("docker-experimental", "false".to_owned()),
        ("ostype", "linux".to_owned()),
        ("server", format!("Docker/{} (linux)", super::system::VERSION)),
    ]
}
