//! A proxy in front of a registry that sees every request, and breaks those that a test tells it to.
//!
//! It knows just enough HTTP: one request per connection, whose answer is passed on as it comes. With a plan that answers
//! everything, it is a server of its own.

#![allow(dead_code, reason = "every test binary uses a part of it")]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "what a test stands on is there, or the test fails; its tasks end with it"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(found, value)| (found == name).then_some(value.as_str()))
    }

    /// Whether it is for a blob, by its digest.
    pub(crate) fn is_blob(&self, digest: &str) -> bool {
        self.path.contains("/blobs/") && self.path.contains(digest)
    }

    /// The first byte that it wants.
    pub(crate) fn from(&self) -> u64 {
        self.header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok())
            .unwrap_or(0)
    }
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// It is passed on.
    Pass,
    /// It is passed on without its range, as to a server that knows none.
    Whole,
    /// It is answered here: status line without the version, headers, body.
    Answer(String, Vec<(String, String)>, Vec<u8>),
    /// So many bytes of the answer's body come, and then the connection is cut.
    Cut(usize),
    /// So many come, and then nothing, for this long.
    Stall(usize, Duration),
    /// The first byte of the body is another one.
    Lie,
    /// Each part of the answer waits for so long.
    Slow(Duration),
    /// It is passed on once this is false.
    Held(Arc<AtomicBool>),
    /// The connection is cut before any answer.
    Refuse,
}

impl Fate {
    pub(crate) fn status(line: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self::Answer(
            line.to_owned(),
            headers.iter().map(owned).collect(),
            body.as_bytes().to_vec(),
        )
    }
}

type Plan = Box<dyn FnMut(&Seen) -> Fate + Send>;

struct State {
    plan: Mutex<Plan>,
    seen: Mutex<Vec<Seen>>,
    /// Bytes of bodies that were passed on.
    sent: Mutex<u64>,
}

/// A proxy that runs, until it is dropped.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// In front of `upstream`, as in `127.0.0.1:5000`; it breaks nothing yet.
    pub(crate) async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            plan: Mutex::new(Box::new(|_| Fate::Pass)),
            seen: Mutex::default(),
            sent: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        let serving = tokio::task::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (state, upstream) = (Arc::clone(&serving), upstream.clone());
                tokio::task::spawn(async move { serve(client, &upstream, &state).await.ok() });
            }
        });
        Self { port, state, serving }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Decides the fate of each request from here on.
    pub(crate) fn plan(&self, plan: impl FnMut(&Seen) -> Fate + Send + 'static) {
        *self.state.plan.lock().unwrap() = Box::new(plan);
    }

    /// The next `times` requests that match meet this fate, the others pass.
    pub(crate) fn break_next(
        &self,
        mut times: usize,
        which: impl Fn(&Seen) -> bool + Send + 'static,
        fate: Fate,
    ) {
        self.plan(move |seen| {
            if times > 0 && which(seen) {
                times -= 1;
                return fate.clone();
            }
            Fate::Pass
        });
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// How many requests of this method have this in their path.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        let asked = |seen: &&Seen| seen.method == method && seen.path.contains(part);
        self.seen().iter().filter(asked).count()
    }

    /// Bytes of bodies that were passed on so far.
    pub(crate) fn sent(&self) -> u64 {
        *self.state.sent.lock().unwrap()
    }

    /// Forgets what was asked.
    pub(crate) fn reset_seen(&self) {
        self.state.seen.lock().unwrap().clear();
        *self.state.sent.lock().unwrap() = 0;
    }

    /// Forgets what was asked, and breaks nothing any more.
    pub(crate) fn reset(&self) {
        self.plan(|_| Fate::Pass);
        self.reset_seen();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn head(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn understood(head: &str) -> Seen {
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let headers = lines.filter_map(|line| line.split_once(':'));
    Seen {
        method: first.next().unwrap_or_default().to_owned(),
        path: first.next().unwrap_or_default().to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: String::new(),
    }
}

async fn serve(mut client: TcpStream, upstream: &str, state: &State) -> std::io::Result<()> {
    let (request, mut body) = head(&mut client).await?;
    let mut seen = understood(&request);
    let length = seen.header("content-length").and_then(|text| text.parse().ok());
    while body.len() < length.unwrap_or(0) {
        client.read_buf(&mut body).await?;
    }
    seen.body = String::from_utf8_lossy(&body).into_owned();
    let fate = (state.plan.lock().unwrap())(&seen);
    state.seen.lock().unwrap().push(seen.clone());
    if let Fate::Answer(line, headers, body) = &fate {
        let mut answer = format!("HTTP/1.1 {line}\r\nconnection: close\r\n");
        for (name, value) in headers {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        {
            answer.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        answer.push_str("\r\n");
        client.write_all(answer.as_bytes()).await?;
        if seen.method != "HEAD" {
            client.write_all(body).await?;
        }
        return client.shutdown().await;
    }
    if matches!(fate, Fate::Refuse) {
        return Ok(());
    }
    if let Fate::Held(held) = &fate {
        while held.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut server = TcpStream::connect(upstream).await?;
    let mut forwarded = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", seen.method, seen.path);
    for (name, value) in &seen.headers {
        let dropped = name == "connection" || (name == "range" && matches!(fate, Fate::Whole));
        if !dropped {
            forwarded.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    forwarded.push_str("\r\n");
    server.write_all(forwarded.as_bytes()).await?;
    let (answer, mut body) = head(&mut server).await?;
    client.write_all(answer.as_bytes()).await?;
    let limit = match fate {
        Fate::Cut(limit) | Fate::Stall(limit, _) => limit,
        _ => usize::MAX,
    };
    let mut passed = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        if body.is_empty() {
            let read = server.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            body.extend_from_slice(&buffer[..read]);
        }
        if matches!(fate, Fate::Lie) && passed == 0 {
            body[0] ^= 0xff;
        }
        if let Fate::Slow(pause) = fate {
            tokio::time::sleep(pause).await;
        }
        body.truncate(limit - passed);
        client.write_all(&body).await?;
        passed += body.len();
        *state.sent.lock().unwrap() += body.len() as u64;
        body.clear();
        if passed == limit {
            if let Fate::Stall(_, pause) = fate {
                client.flush().await?;
                tokio::time::sleep(pause).await;
            }
            break;
        }
    }
    client.shutdown().await
}
