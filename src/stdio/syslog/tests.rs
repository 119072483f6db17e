//! Tests with real sockets: a receiver of each kind parses what arrives by the rules of RFC 5424.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener};

use super::*;
use crate::stdio::{Sink, Source, Writer};

const TAG: &str = "app_id=a1,fn_id=f1";

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new())
}

/// A parsed message.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    priority: u8,
    text: String,
}

/// Parses a message. Fails unless it follows RFC 5424 (6: `HEADER SP STRUCTURED-DATA [SP MSG]`).
#[track_caller]
fn parse(message: &[u8]) -> Message {
    let message = std::str::from_utf8(message).unwrap();
    let mut fields = message.splitn(8, ' ');
    let mut next = || fields.next().unwrap();
    let (priority, version) = next().strip_prefix('<').unwrap().split_once('>').unwrap();
    let (time, host, app, process, id, data) = (next(), next(), next(), next(), next(), next());
    assert_eq!((version, data), ("1", "-"), "{message}");
    let (date, clock) = time.split_once('T').unwrap();
    assert!(
        date.len() == 10 && clock.len() <= 16 && clock.ends_with('Z'),
        "{time}"
    );
    for (field, longest) in [(host, 255), (app, 48), (process, 128), (id, 32)] {
        assert!(
            (1..=longest).contains(&field.len()) && field.bytes().all(|byte| byte.is_ascii_graphic()),
            "{message}"
        );
    }
    assert_eq!(
        (app, id, process),
        (TAG, TAG, std::process::id().to_string().as_str())
    );
    Message {
        priority: priority.parse().unwrap(),
        text: next().to_owned(),
    }
}

/// Parses a stream of messages, one per line.
#[track_caller]
fn parse_stream(bytes: &[u8]) -> Vec<Message> {
    let bytes = bytes.strip_suffix(b"\n").expect("a whole last message");
    bytes.split(|byte| *byte == b'\n').map(parse).collect()
}

/// The bytes that the task's own writer received.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl tokio::io::AsyncWrite for Captured {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::task::Poll::Ready(io::Write::write(&mut *self.0.lock().unwrap(), bytes))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// A log, its two streams, and the tasks that run for it.
struct Log {
    stdout: Writer,
    stderr: Writer,
    captured: Captured,
    tracker: TaskTracker,
}

impl Log {
    async fn open(url: &str) -> Self {
        let (tracker, captured) = (TaskTracker::new(), Captured::default());
        let endpoint = Endpoint::parse(url).unwrap();
        let syslog = Syslog::connect(
            &Context::timeout(CONNECTING),
            &endpoint,
            TAG,
            &tracker,
            &metrics(),
        )
        .await
        .unwrap();
        let streams = syslog.attach(Streams {
            stdin: Source::Null,
            stdout: Sink::writer(captured.clone()),
            stderr: Sink::Null,
        });
        let (Sink::Writer(stdout), Sink::Writer(stderr)) = (streams.stdout, streams.stderr) else {
            panic!("a logged stream is attached");
        };
        Self {
            stdout,
            stderr,
            captured,
            tracker,
        }
    }

    async fn out(&mut self, text: &str) {
        patiently(self.stdout.write_all(text.as_bytes())).await.unwrap();
    }

    /// Ends both streams as a function's exit does; no task may run after that.
    async fn end(mut self) {
        let (out, err) = tokio::join!(
            patiently(self.stdout.shutdown()),
            patiently(self.stderr.shutdown())
        );
        out.and(err).unwrap();
        self.tracker.close();
        patiently(self.tracker.wait()).await;
    }
}

async fn patiently<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), work)
        .await
        .expect("this should have ended long ago")
}

async fn tcp() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, url)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    patiently(listener.accept()).await.unwrap().0
}

/// Waits until the kernel has told the client that the server has closed its connection: its socket is in CLOSE_WAIT,
/// which is 8 in the fourth column of proc_net(5). On a busy machine that takes a moment, in which a line would be lost,
/// as with any syslog over TCP.
async fn hung_up(client: std::net::SocketAddr) {
    let local = match client {
        std::net::SocketAddr::V4(at) => {
            format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port())
        }
        std::net::SocketAddr::V6(_) => panic!("the servers of these tests listen on 127.0.0.1"),
    };
    let is_told = || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mut rows = sockets
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>());
        rows.any(|row| row.get(1) == Some(&local.as_str()) && row.get(3) == Some(&"08"))
    };
    let told = async {
        while !is_told() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    patiently(told).await;
}

async fn read_all(mut from: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    patiently(from.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

/// Reads one line, without waiting for the end of the connection.
async fn read_line(from: &mut TcpStream) -> Message {
    let mut line = Vec::new();
    loop {
        match patiently(from.read_u8()).await.unwrap() {
            b'\n' => return parse(&line),
            byte => line.push(byte),
        }
    }
}

fn texts(messages: &[Message], priority: u8) -> Vec<&str> {
    messages
        .iter()
        .filter(|message| message.priority == priority)
        .map(|message| message.text.as_str())
        .collect()
}

fn socket_url(scheme: &str, path: &Path) -> String {
    format!("{scheme}://{}", path.display())
}

#[tokio::test]
async fn over_tcp_each_line_is_a_message_and_the_tail_arrives_before_the_end() {
    let (listener, url) = tcp().await;
    let mut log = Log::open(&url).await;
    let server = accept(&listener).await;
    log.out("first\nsec").await;
    log.out("ond\n\nno newline").await;
    log.stderr.write_all(b"oh\nno\n").await.unwrap();
    log.end().await;
    let messages = parse_stream(&read_all(server).await);
    assert_eq!(texts(&messages, 14), ["first", "second", "no newline"]);
    assert_eq!(texts(&messages, 11), ["oh", "no"]);
}

#[tokio::test]
async fn the_end_of_a_stream_waits_for_its_last_line() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut log = Log::open(&format!("udp://{}", socket.local_addr().unwrap())).await;
    log.out("no newline").await;
    let mut buffer = [0; 1024];
    assert_eq!(
        socket.recv(&mut buffer).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    patiently(log.stdout.shutdown()).await.unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(parse(&buffer[..length]).text, "no newline");
    log.end().await;
}

#[tokio::test]
async fn over_udp_each_line_is_a_datagram() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut log = Log::open(&format!(
        "udp://localhost:{}",
        socket.local_addr().unwrap().port()
    ))
    .await;
    log.out("a\nb\nc").await;
    log.end().await;
    let mut buffer = vec![0; 1 << 16];
    for text in ["a", "b", "c"] {
        let length = patiently(socket.recv(&mut buffer)).await.unwrap();
        assert_eq!(
            parse(&buffer[..length]),
            Message {
                priority: 14,
                text: text.to_owned()
            }
        );
    }
}

#[tokio::test]
async fn over_unix_sockets_of_both_kinds_lines_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stream");
    let listener = UnixListener::bind(&path).unwrap();
    let mut log = Log::open(&socket_url("unix", &path)).await;
    let (server, _) = patiently(listener.accept()).await.unwrap();
    log.out("a\nb").await;
    log.end().await;
    assert_eq!(texts(&parse_stream(&read_all(server).await), 14), ["a", "b"]);

    let path = dir.path().join("datagram");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut log = Log::open(&socket_url("unixgram", &path)).await;
    log.out("a\n").await;
    log.end().await;
    let mut buffer = vec![0; 1 << 16];
    let length = patiently(socket.recv(&mut buffer)).await.unwrap();
    assert_eq!(parse(&buffer[..length]).text, "a");
}

#[tokio::test]
async fn a_long_line_becomes_several_and_loses_nothing() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut log = Log::open(&format!("udp://{}", socket.local_addr().unwrap())).await;
    let line = "0123456789".repeat(4000);
    log.out(&format!("{line}\n")).await;
    log.end().await;
    let (mut buffer, mut pieces) = (vec![0; 1 << 16], Vec::new());
    for _ in 0..3 {
        let length = patiently(socket.recv(&mut buffer)).await.unwrap();
        pieces.push(parse(&buffer[..length]).text);
    }
    assert_eq!(
        pieces.iter().map(String::len).collect::<Vec<_>>(),
        [16384, 16384, 7232]
    );
    assert_eq!(pieces.concat(), line);
}

#[tokio::test]
async fn a_dead_endpoint_is_unavailable_and_nothing_is_left() {
    let (listener, url) = tcp().await;
    drop(listener);
    for url in [
        url.as_str(),
        "unix:///nobody/here",
        "unixgram:///nobody/here",
        "udp://no-such-host.invalid",
    ] {
        let (endpoint, tracker) = (Endpoint::parse(url).unwrap(), TaskTracker::new());
        let error = Syslog::connect(&Context::new(), &endpoint, TAG, &tracker, &metrics())
            .await
            .unwrap_err();
        assert!(matches!(error, NoSyslog::Unavailable(_)), "{url}: {error:?}");
        assert!(tracker.is_empty());
    }
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_unavailable_at_the_deadline() {
    // A listener whose backlog is full drops further connections.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        filling.push(stream);
    }
    let endpoint = Endpoint::parse(&format!("tcp://{address}")).unwrap();
    let tracker = TaskTracker::new();
    let late = Context::timeout(Duration::from_millis(100));
    let error = patiently(Syslog::connect(&late, &endpoint, TAG, &tracker, &metrics()))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, NoSyslog::Unavailable(cause) if cause.kind() == io::ErrorKind::TimedOut),
        "{error:?}"
    );
    let cancelled = Context::new();
    cancelled.cancel();
    let error = Syslog::connect(&cancelled, &endpoint, TAG, &tracker, &metrics())
        .await
        .unwrap_err();
    assert!(
        matches!(error, NoSyslog::Cancelled(Interrupted::Cancelled)),
        "{error:?}"
    );
}

/// 10 MB in lines of a hundred bytes, each with its number.
fn ten_megabytes() -> String {
    (0..100_000).map(|number| format!("{number:099}\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_arrives_whole_and_in_order_at_an_endpoint_that_reads() {
    let (listener, url) = tcp().await;
    let mut log = Log::open(&url).await;
    let server = TaskTracker::new().spawn(read_all(accept(&listener).await));
    let burst = ten_megabytes();
    log.out(&burst).await;
    assert!(*log.captured.0.lock().unwrap() == burst.as_bytes());
    log.end().await;
    let messages = parse_stream(&server.await.unwrap());
    assert_eq!(messages.len(), 100_000);
    assert!(texts(&messages, 14).into_iter().eq(burst.lines()));
}

#[tokio::test]
async fn an_endpoint_that_stops_reading_does_not_hold_up_the_function() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stream");
    let listener = UnixListener::bind(&path).unwrap();
    let mut log = Log::open(&socket_url("unix", &path)).await;
    let (server, _) = patiently(listener.accept()).await.unwrap();
    let captured = log.captured.clone();
    // The server reads only after the writer and the log have ended.
    log.out(&ten_megabytes()).await;
    assert_eq!(captured.len(), 10_000_000);
    log.end().await;
    // The server receives the lines in order, up to where sending stopped.
    let bytes = read_all(server).await;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap();
    for (number, message) in parse_stream(&bytes[..=whole]).iter().enumerate() {
        assert_eq!(message.text, format!("{number:099}"));
    }
}

#[tokio::test]
async fn a_server_that_restarts_gets_every_line_of_an_idle_function() {
    let (listener, url) = tcp().await;
    let address = listener.local_addr().unwrap();
    let mut log = Log::open(&url).await;
    let mut server = accept(&listener).await;
    log.out("before\n").await;
    assert_eq!(read_line(&mut server).await.text, "before");
    let client = server.peer_addr().unwrap();
    drop((server, listener));
    hung_up(client).await;
    // The server is down for a while, in which lines wait.
    log.out("while it is down\n").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let mut server = accept(&listener).await;
    assert_eq!(read_line(&mut server).await.text, "while it is down");
    // The server restarts between two lines: the next line is not written into the dead connection.
    let client = server.peer_addr().unwrap();
    drop(server);
    hung_up(client).await;
    log.out("after\n").await;
    let mut server = accept(&listener).await;
    assert_eq!(read_line(&mut server).await.text, "after");
    log.end().await;
    assert_eq!(read_all(server).await, b"");
}

#[tokio::test]
async fn a_datagram_socket_that_is_made_again_gets_the_lines_written_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut log = Log::open(&socket_url("unixgram", &path)).await;
    drop(socket);
    std::fs::remove_file(&path).unwrap();
    log.out("a\nb\n").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut buffer = vec![0; 1 << 16];
    for text in ["a", "b"] {
        let length = patiently(socket.recv(&mut buffer)).await.unwrap();
        assert_eq!(parse(&buffer[..length]).text, text);
    }
    log.end().await;
}

/// Set in a process that runs only one test.
const ALONE: &str = "FNCTR_TEST_ALONE";

/// Collects a test's warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<u8>>>);

impl io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn lines_for_an_endpoint_that_went_away_are_counted_in_one_warning() {
    // In a process of its own: if another test reaches the same warning for the first time while this test sets its
    // subscriber, tracing may disable the warning for good.
    if std::env::var_os(ALONE).is_none() {
        let name = "stdio::syslog::tests::lines_for_an_endpoint_that_went_away_are_counted_in_one_warning";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let alone = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1");
        let ended = alone.output().unwrap();
        let text = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let warnings = Warnings::default();
    let sink = warnings.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || sink.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (listener, url) = tcp().await;
    let mut log = Log::open(&url).await;
    drop((accept(&listener).await, listener));
    tokio::time::sleep(Duration::from_millis(50)).await;
    log.out("a\nb\n").await;
    log.stderr.write_all(b"c").await.unwrap();
    log.end().await;
    let text = String::from_utf8(warnings.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("WARN").count(), 1, "{text}");
    assert!(text.contains("lost=3") && text.contains(&url), "{text}");
}

#[tokio::test]
async fn a_writer_that_fails_is_reported_at_the_end_and_the_log_is_whole() {
    let (listener, url) = tcp().await;
    let (tracker, endpoint) = (TaskTracker::new(), Endpoint::parse(&url).unwrap());
    let syslog = Syslog::connect(&Context::new(), &endpoint, TAG, &tracker, &metrics())
        .await
        .unwrap();
    let server = accept(&listener).await;
    let (main, other_end) = tokio::io::duplex(64);
    drop(other_end);
    let streams = syslog.attach(Streams {
        stdout: Sink::writer(main),
        ..Streams::default()
    });
    let Sink::Writer(mut stdout) = streams.stdout else {
        panic!("a logged stream is attached")
    };
    stdout.write_all(b"one\ntwo\n").await.unwrap();
    drop(streams.stderr);
    let error = patiently(stdout.shutdown()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(
        patiently(stdout.shutdown()).await.is_ok(),
        "an error is told once"
    );
    assert_eq!(texts(&parse_stream(&read_all(server).await), 14), ["one", "two"]);
}

#[tokio::test]
async fn streams_that_are_thrown_away_end_the_delivery() {
    let (listener, url) = tcp().await;
    let mut log = Log::open(&url).await;
    let server = accept(&listener).await;
    log.out("half a line").await;
    let tracker = log.tracker.clone();
    drop(log);
    tracker.close();
    patiently(tracker.wait()).await;
    assert_eq!(texts(&parse_stream(&read_all(server).await), 14), ["half a line"]);
}
