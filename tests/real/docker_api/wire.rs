//! A client that sees every byte.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::patience::patient;
use crate::world::Stage;

/// A server of the API.
pub(crate) struct Docker {
    pub(crate) server: Beside,
    socket: PathBuf,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    /// The head, as it was sent.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Said {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header; empty without it.
    pub(crate) fn header(&self, name: &str) -> String {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found
            .next()
            .map(|(_, value)| value.to_owned())
            .unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().expect("a message").to_owned()
    }
}

impl Docker {
    pub(crate) fn serve(stage: &Stage) -> Self {
        let socket = stage.real.dir().join("docker.sock");
        let named = socket.display().to_string();
        let server = Beside::start(stage, &["serve", "--docker-socket", &named]);
        server.hear();
        Self::of(server, socket)
    }

    /// A server that has said that it serves.
    pub(crate) fn of(server: Beside, socket: PathBuf) -> Self {
        Self { server, socket }
    }

    pub(crate) fn socket(&self) -> &str {
        self.socket.to_str().expect("text")
    }

    /// Ends it as an operator does.
    pub(crate) fn end(self) {
        self.server.signal(Signal::SIGTERM);
        let (code, said, err) = self.server.end();
        assert_eq!((code, said.as_slice()), (Some(0), &[][..]), "{err}");
        assert!(!self.socket.exists());
    }

    pub(crate) fn kill(self) {
        self.server.signal(Signal::SIGKILL);
        self.server.end();
    }

    pub(crate) fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).expect("to connect")
    }

    /// Sends bytes, and reads until the server closes the connection.
    pub(crate) fn raw(&self, request: &[u8]) -> Said {
        let mut stream = self.connect();
        stream.write_all(request).expect("to ask");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("an answer");
        parse(&all)
    }

    pub(crate) fn ask(&self, method: &str, path: &str) -> Said {
        self.raw(format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Said {
        self.ask("GET", path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Said {
        self.raw(&with_body(path, &body.to_string()))
    }

    /// Creates a container without a network, and returns its id.
    #[track_caller]
    pub(crate) fn create(&self, name: &str, body: Value) -> String {
        let mut whole = json!({ "Image": "busybox", "HostConfig": { "NetworkMode": "none" } });
        merge(&mut whole, body);
        let said = self.post(&format!("/containers/create?name={name}"), &whole);
        assert_eq!(said.status, 201, "{said:?}");
        said.json()["Id"].as_str().expect("an id").to_owned()
    }

    #[track_caller]
    pub(crate) fn done(&self, method: &str, path: &str) {
        let said = self.ask(method, path);
        assert!([200, 204].contains(&said.status), "{path}: {said:?}");
    }

    /// Attaches, and returns the connection after the head of the answer.
    #[track_caller]
    pub(crate) fn attach(&self, id: &str, query: &str) -> UnixStream {
        let mut stream = self.connect();
        let path = format!("/containers/{id}/attach?stream=1&{query}");
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("to ask");
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
        stream
    }

    /// Sends a body, and returns the connection that the answer hands over.
    #[track_caller]
    pub(crate) fn upgraded(&self, path: &str, body: &str) -> UnixStream {
        let mut stream = self.connect();
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("to ask");
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
        stream
    }

    /// Begins a request whose answer does not end by itself: its head, and its lines.
    pub(crate) fn follow(&self, method: &str, path: &str) -> Followed {
        let mut stream = self.connect();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("to ask");
        let head = read_head(&mut stream);
        let wait = patient(Duration::from_secs(60));
        stream.set_read_timeout(Some(wait)).expect("a limit");
        let lines = BufReader::new(stream);
        Followed { head, lines }
    }
}

/// An answer that goes on.
pub(crate) struct Followed {
    pub(crate) head: String,
    lines: BufReader<UnixStream>,
}

impl Followed {
    /// The next chunk of the body; `None` after the last one.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        self.lines.read_line(&mut size).expect("a chunk");
        let size = usize::from_str_radix(size.trim(), 16).expect("its size");
        let mut chunk = vec![0; size + 2];
        self.lines.read_exact(&mut chunk).expect("all of it");
        chunk.truncate(size);
        (size != 0).then_some(chunk)
    }

    #[track_caller]
    pub(crate) fn json(&mut self) -> Value {
        let chunk = self.next().expect("a chunk");
        serde_json::from_slice(&chunk).expect("JSON")
    }
}

/// All output of an attached container, by stream.
pub(crate) fn output(mut stream: UnixStream) -> (String, String) {
    let wait = patient(Duration::from_secs(60));
    stream.set_read_timeout(Some(wait)).expect("a limit");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("all output");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = all.as_slice();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        assert_eq!(&head[1..4], [0; 3], "{head:?}");
        let (bytes, after) = after.split_at(length);
        match head[0] {
            1 => out.extend_from_slice(bytes),
            2 => err.extend_from_slice(bytes),
            other => panic!("a frame of stream {other}"),
        }
        rest = after;
    }
    assert!(rest.is_empty(), "{rest:?}");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(out), text(err))
}

/// Writes input, and ends it.
pub(crate) fn say(stream: &mut UnixStream, input: &str) {
    stream.write_all(input.as_bytes()).expect("to write");
    stream.shutdown(Shutdown::Write).expect("to end");
}

pub(crate) fn with_body(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

pub(crate) fn parse(all: &[u8]) -> Said {
    let at = all
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("{all:?}"));
    let head = String::from_utf8_lossy(&all[..at]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    let mut body = all[at + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = joined(&body);
    }
    Said { status, head, body }
}

/// The bytes of all chunks. What follows a part that is no whole chunk is taken as it is.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n");
        let size = end.and_then(|end| {
            let size = std::str::from_utf8(&chunks[..end]).ok()?;
            Some((end, usize::from_str_radix(size, 16).ok()?))
        });
        match size {
            Some((_, 0)) => return body,
            Some((end, size)) if chunks.len() >= end + 4 + size => {
                body.extend_from_slice(&chunks[end + 2..end + 2 + size]);
                chunks = &chunks[end + 4 + size..];
            }
            _ => {
                body.extend_from_slice(chunks);
                return body;
            }
        }
    }
}
