//! Tests with real fifos and files. A thread plays the runtime, which opens the other ends as a shim does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{self, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::task::TaskTracker;

use super::fifo::Paths;
use super::pumps::Delivered;
use super::*;
use crate::{Context, Interrupted};

/// A writer whose bytes a test can inspect.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl AsyncWrite for Captured {
    fn poll_write(self: Pin<&mut Self>, _: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A directory for the fifos of one container.
struct Room {
    base: tempfile::TempDir,
    tracker: TaskTracker,
}

impl Room {
    fn new() -> Self {
        Self {
            base: tempfile::tempdir().unwrap(),
            tracker: TaskTracker::new(),
        }
    }

    fn dir(&self) -> PathBuf {
        self.base.path().join("run").join("c1")
    }

    #[track_caller]
    fn start(&self, streams: Streams) -> (Paths, Pumps) {
        let fifos = Fifos::create(&self.dir(), streams).unwrap();
        (fifos.paths(), fifos.start(&self.tracker, &Context::new()))
    }

    /// The descriptors of this process that refer to files in the room. Other tests in the same process do not affect
    /// them.
    fn open_descriptors(&self) -> Vec<PathBuf> {
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .filter(|target| target.starts_with(self.base.path()))
            .collect()
    }

    async fn all_tasks_end(&self) {
        self.tracker.close();
        patiently(self.tracker.wait()).await;
    }
}

async fn patiently<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(300), work)
        .await
        .expect("this should have ended long ago")
}

fn patience() -> Context {
    Context::timeout(Duration::from_secs(300))
}

/// Opens the runtime's write end of an output fifo.
fn writes(path: Option<PathBuf>, work: impl FnOnce(File) + Send + 'static) -> JoinHandle<()> {
    let path = path.unwrap();
    thread::spawn(move || work(OpenOptions::new().write(true).open(path).unwrap()))
}

async fn joined<T: Send + 'static>(thread: JoinHandle<T>) -> T {
    patiently(tokio::task::spawn_blocking(|| thread.join().unwrap()))
        .await
        .unwrap()
}

/// Bytes whose order can be checked at any position.
fn numbered(words: std::ops::Range<u32>) -> Vec<u8> {
    words.flat_map(u32::to_le_bytes).collect()
}

const HUNDRED_MEGABYTES: u32 = 25_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_of_output_arrive_complete_and_in_order() {
    let room = Room::new();
    let captured = Captured::default();
    let (paths, pumps) = room.start(Streams {
        stdout: Sink::writer(captured.clone()),
        ..Streams::default()
    });
    let runtime = writes(paths.stdout, |mut out| {
        for start in (0..HUNDRED_MEGABYTES).step_by(100_000) {
            out.write_all(&numbered(start..start + 100_000)).unwrap();
        }
    });
    let delivered = pumps.finished(&patience()).await.unwrap();
    assert_eq!(delivered.stdout, 100_000_000);
    assert!(*captured.0.lock().unwrap() == numbered(0..HUNDRED_MEGABYTES));
    joined(runtime).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_of_input_arrive_in_order_and_then_the_end() {
    let room = Room::new();
    let (paths, pumps) = room.start(Streams {
        stdin: Source::reader(io::Cursor::new(numbered(0..HUNDRED_MEGABYTES))),
        ..Streams::default()
    });
    let path = paths.stdin.unwrap();
    let runtime = thread::spawn(move || {
        let mut read = Vec::new();
        File::open(path).unwrap().read_to_end(&mut read).unwrap();
        read
    });
    assert!(patiently(pumps.stdin_done()).await);
    assert!(joined(runtime).await == numbered(0..HUNDRED_MEGABYTES));
    let delivered = pumps.finished(&patience()).await.unwrap();
    assert_eq!(delivered.stdin, 100_000_000);
}

#[tokio::test]
async fn the_end_comes_when_the_last_writer_closes_and_not_before_the_first() {
    let room = Room::new();
    let captured = Captured::default();
    let (paths, pumps) = room.start(Streams {
        stdout: Sink::writer(captured.clone()),
        ..Streams::default()
    });
    let short = || Context::timeout(Duration::from_millis(50));
    // The fifo has no writer yet: a bare read would return "end of file" now.
    let waited = pumps.finished(&short()).await;
    assert!(matches!(
        waited,
        Err(StreamError::Interrupted(Interrupted::DeadlineExceeded))
    ));

    let path = paths.stdout.unwrap();
    let open = || OpenOptions::new().write(true).open(&path).unwrap();
    let (mut first, mut second) = (open(), open());
    first.write_all(b"one ").unwrap();
    drop(first);
    assert!(pumps.finished(&short()).await.is_err());
    second.write_all(b"two").unwrap();
    drop(second);
    assert_eq!(pumps.finished(&patience()).await.unwrap().stdout, 7);
    assert_eq!(captured.text(), "one two");
}

#[tokio::test]
async fn a_task_that_never_came_to_be_is_ended_by_abort() {
    let room = Room::new();
    let (_, pumps) = room.start(Streams {
        stdin: Source::reader(io::Cursor::new(b"never read")),
        stdout: Sink::writer(tokio::io::sink()),
        stderr: Sink::writer(tokio::io::sink()),
    });
    pumps.abort();
    assert!(matches!(
        pumps.finished(&patience()).await,
        Err(StreamError::Abandoned)
    ));
    assert!(!patiently(pumps.stdin_done()).await);
    room.all_tasks_end().await;
    assert_eq!(room.open_descriptors(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn output_is_there_while_the_function_pauses_even_through_a_buffering_writer() {
    let room = Room::new();
    let captured = Captured::default();
    let (paths, pumps) = room.start(Streams {
        stdout: Sink::writer(tokio::io::BufWriter::new(captured.clone())),
        ..Streams::default()
    });
    let mut out = OpenOptions::new()
        .write(true)
        .open(paths.stdout.unwrap())
        .unwrap();
    out.write_all(b"so far").unwrap();
    patiently(async {
        while captured.text() != "so far" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    drop(out);
    pumps.finished(&patience()).await.unwrap();
}

#[tokio::test]
async fn a_function_that_stops_reading_its_input_is_no_error() {
    let room = Room::new();
    let (paths, pumps) = room.start(Streams {
        stdin: Source::reader(tokio::io::repeat(b'x')),
        ..Streams::default()
    });
    let path = paths.stdin.unwrap();
    let runtime = thread::spawn(move || {
        let mut one = [0];
        File::open(path).unwrap().read_exact(&mut one).unwrap();
    });
    joined(runtime).await;
    assert!(
        !patiently(pumps.stdin_done()).await,
        "there is nothing left to close"
    );
    pumps.finished(&patience()).await.unwrap();
}

#[tokio::test]
async fn a_function_that_never_reads_its_input_does_not_hold_back_the_end() {
    let room = Room::new();
    let (paths, pumps) = room.start(Streams {
        stdin: Source::reader(tokio::io::repeat(b'x')),
        stdout: Sink::writer(tokio::io::sink()),
        ..Streams::default()
    });
    let reader = thread::spawn({
        let path = paths.stdin.unwrap();
        move || File::open(path).unwrap()
    });
    let open_but_unread = joined(reader).await;
    joined(writes(paths.stdout, drop)).await;
    pumps.finished(&patience()).await.unwrap();
    drop(open_but_unread);
}

#[tokio::test]
async fn input_that_never_ends_does_not_hold_back_the_end() {
    let room = Room::new();
    let (ours, theirs) = tokio::io::duplex(64);
    let (paths, pumps) = room.start(Streams {
        stdin: Source::reader(theirs),
        ..Streams::default()
    });
    let path = paths.stdin.unwrap();
    let reader = thread::spawn(move || File::open(path).unwrap());
    joined(reader).await;
    pumps.finished(&patience()).await.unwrap();
    drop(ours);
}

#[tokio::test]
async fn input_that_ended_before_the_first_waiter_must_still_be_closed() {
    let room = Room::new();
    let streams = Streams {
        stdin: Source::reader(&b"short"[..]),
        ..Streams::default()
    };
    let fifos = Fifos::create(&room.dir(), streams).unwrap();
    let (path, has_input) = (fifos.paths().stdin.unwrap(), fifos.has_input());
    let pumps = fifos.start(&room.tracker, &Context::new());
    let runtime = thread::spawn(move || io::read_to_string(File::open(path).unwrap()).unwrap());
    room.all_tasks_end().await;
    assert_eq!(joined(runtime).await, "short");
    assert!(has_input && patiently(pumps.stdin_done()).await);
}

#[tokio::test(start_paused = true)]
async fn input_that_the_runtime_never_opens_is_closed_and_reported() {
    let room = Room::new();
    let (_, pumps) = room.start(Streams {
        stdin: Source::reader(&b"unread"[..]),
        ..Streams::default()
    });
    assert!(pumps.stdin_done().await);
    let error = pumps.finished(&Context::new()).await.unwrap_err();
    assert!(matches!(error, StreamError::Unopened { .. }), "{error}");
}

#[tokio::test]
async fn a_reader_that_fails_closes_the_input_and_is_reported_by_name() {
    struct Broken;
    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other("the client hung up")))
        }
    }
    let room = Room::new();
    let (paths, pumps) = room.start(Streams {
        stdin: Source::reader(Broken),
        ..Streams::default()
    });
    let path = paths.stdin.unwrap();
    let runtime = thread::spawn(move || File::open(path).unwrap().read_to_end(&mut Vec::new()).unwrap());
    assert!(patiently(pumps.stdin_done()).await);
    assert_eq!(joined(runtime).await, 0);
    let error = pumps.finished(&patience()).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read standard input");
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "the client hung up");
}

#[tokio::test]
async fn a_writer_that_fails_does_not_block_the_function_and_is_reported_by_name() {
    let room = Room::new();
    let (ours, theirs) = tokio::io::duplex(64);
    drop(ours);
    let captured = Captured::default();
    let (paths, pumps) = room.start(Streams {
        stdout: Sink::writer(captured.clone()),
        stderr: Sink::writer(theirs),
        ..Streams::default()
    });
    // Four times the capacity of a pipe: the function would block if the pipe were not drained.
    let stderr = writes(paths.stderr, |mut err| {
        err.write_all(&vec![b'x'; 4 << 20]).unwrap()
    });
    joined(stderr).await;
    joined(writes(paths.stdout, |mut out| {
        out.write_all(b"unharmed").unwrap()
    }))
    .await;
    let error = pumps.finished(&patience()).await.unwrap_err();
    assert!(
        matches!(&error, StreamError::Write { stream: Stream::Stderr, source } if source.kind() == io::ErrorKind::BrokenPipe),
        "{error:?}"
    );
    assert_eq!(error.to_string(), "cannot write standard error");
    assert_eq!(captured.text(), "unharmed");
}

#[tokio::test]
async fn a_slow_writer_holds_back_the_function_and_loses_nothing() {
    let room = Room::new();
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let (paths, pumps) = room.start(Streams {
        stdout: Sink::writer(theirs),
        ..Streams::default()
    });
    const LENGTH: usize = 8 << 20;
    let runtime = writes(paths.stdout, |mut out| {
        out.write_all(&vec![b'x'; LENGTH]).unwrap()
    });
    let short = Context::timeout(Duration::from_millis(100));
    // The caller is notified in time that the output is not delivered yet, although the writer makes no progress at
    // all.
    assert!(matches!(
        pumps.finished(&short).await,
        Err(StreamError::Interrupted(_))
    ));
    assert!(!runtime.is_finished(), "8 MB do not fit into the pipe");
    let slow = async {
        let mut read = Vec::new();
        ours.read_to_end(&mut read).await.unwrap();
        read.len()
    };
    assert_eq!(patiently(slow).await, LENGTH);
    let patience = patience();
    let (one, other) = tokio::join!(pumps.finished(&patience), pumps.finished(&patience));
    assert_eq!(one.unwrap().stdout, LENGTH as u64);
    assert_eq!(
        other.unwrap().stdout,
        LENGTH as u64,
        "several waiters learn the same"
    );
    joined(runtime).await;
}

#[tokio::test]
async fn stdout_and_stderr_stay_apart() {
    let room = Room::new();
    let (out, err) = (Captured::default(), Captured::default());
    let (paths, pumps) = room.start(Streams {
        stdin: Source::Null,
        stdout: Sink::writer(out.clone()),
        stderr: Sink::writer(err.clone()),
    });
    assert_eq!(paths.stdin, None);
    joined(writes(paths.stdout, |mut out| out.write_all(b"answer").unwrap())).await;
    joined(writes(paths.stderr, |mut err| {
        err.write_all(b"complaint").unwrap()
    }))
    .await;
    pumps.finished(&patience()).await.unwrap();
    assert_eq!(
        (out.text().as_str(), err.text().as_str()),
        ("answer", "complaint")
    );
}

#[tokio::test]
async fn null_streams_leave_no_file_and_nothing_to_wait_for() {
    let room = Room::new();
    let (paths, pumps) = room.start(Streams::default());
    assert_eq!(paths, Paths::default());
    assert!(!room.dir().exists());
    assert!(!patiently(pumps.stdin_done()).await);
    assert_eq!(pumps.finished(&patience()).await.unwrap(), Delivered::default());
    Fifos::remove(&room.dir()).unwrap();
}

#[tokio::test]
async fn the_fifos_are_private_and_replace_what_a_crash_left_behind() {
    let room = Room::new();
    let outside = room.base.path().join("precious");
    fs::write(&outside, "kept").unwrap();
    fs::create_dir_all(room.dir().join("unknown")).unwrap();
    fs::write(room.dir().join("stdout"), "a regular file").unwrap();
    std::os::unix::fs::symlink(&outside, room.dir().join("stderr")).unwrap();
    let both = || Streams {
        stdout: Sink::writer(tokio::io::sink()),
        stderr: Sink::writer(tokio::io::sink()),
        ..Streams::default()
    };
    let fifos = Fifos::create(&room.dir(), both()).unwrap();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&room.dir()), 0o700);
    for path in [fifos.paths().stdout.unwrap(), fifos.paths().stderr.unwrap()] {
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
        assert_eq!(mode(&path), 0o600);
    }
    // And the lock of their holder.
    assert_eq!(mode(&room.dir().join("attach.lock")), 0o600);
    assert_eq!(fs::read_dir(room.dir()).unwrap().count(), 3);
    // If the directory is only a symbolic link, the link is removed and its target stays.
    Fifos::remove(&room.dir()).unwrap();
    std::os::unix::fs::symlink(room.base.path(), room.dir()).unwrap();
    drop(Fifos::create(&room.dir(), both()).unwrap());
    assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
    Fifos::remove(&room.dir()).unwrap();
    Fifos::remove(&room.dir()).unwrap();
    assert!(!room.dir().exists());
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let room = Room::new();
    fs::write(room.base.path().join("run"), "in the way").unwrap();
    let streams = Streams {
        stdout: Sink::writer(tokio::io::sink()),
        ..Streams::default()
    };
    let error = Fifos::create(&room.dir(), streams).unwrap_err();
    assert!(
        error.to_string().contains(room.base.path().to_str().unwrap()),
        "{error}"
    );
}

#[tokio::test]
async fn no_descriptor_and_no_task_is_left() {
    let room = Room::new();
    for _ in 0..50 {
        let (paths, pumps) = room.start(Streams {
            stdin: Source::reader(io::Cursor::new(b"in")),
            stdout: Sink::writer(tokio::io::sink()),
            stderr: Sink::writer(tokio::io::sink()),
        });
        let (stdin, stdout, stderr) = (paths.stdin.unwrap(), paths.stdout, paths.stderr);
        let reader = thread::spawn(move || File::open(stdin).unwrap().read_to_end(&mut Vec::new()).unwrap());
        joined(writes(stdout, drop)).await;
        joined(writes(stderr, drop)).await;
        assert_eq!(joined(reader).await, 2);
        pumps.finished(&patience()).await.unwrap();
    }
    // And a delivery whose owner is dropped in the middle.
    let (_, dropped) = room.start(Streams {
        stdout: Sink::writer(tokio::io::sink()),
        ..Streams::default()
    });
    let held = ["attach.lock", "stdout"].map(|name| room.dir().join(name));
    let mut open = room.open_descriptors();
    open.sort();
    assert_eq!(open, held);
    drop(dropped);
    room.all_tasks_end().await;
    assert_eq!(room.open_descriptors(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn input_flows_while_it_comes() {
    let room = Room::new();
    let (mut ours, theirs) = tokio::io::duplex(64);
    let (paths, pumps) = room.start(Streams {
        stdin: Source::reader(theirs),
        ..Streams::default()
    });
    let path = paths.stdin.unwrap();
    let mut runtime = joined(thread::spawn(move || File::open(path).unwrap())).await;
    for line in ["first\n", "second\n"] {
        ours.write_all(line.as_bytes()).await.unwrap();
        let mut read = vec![0; line.len()];
        let read = thread::spawn(move || {
            runtime.read_exact(&mut read).unwrap();
            (runtime, read)
        });
        let back = joined(read).await;
        runtime = back.0;
        assert_eq!(back.1, line.as_bytes());
    }
    drop(ours);
    assert!(patiently(pumps.stdin_done()).await);
}
