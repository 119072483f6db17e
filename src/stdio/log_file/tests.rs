use std::fs::{self, File};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::file_lock::FileLock;
use crate::stdio::{Sink, Source, Writer};

struct Log {
    dir: tempfile::TempDir,
    logs: LogFiles,
    tracker: TaskTracker,
    metrics: Arc<Metrics>,
}

impl Log {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            logs: LogFiles::default(),
            tracker: TaskTracker::new(),
            metrics: Arc::new(Metrics::new()),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("c1/c1-json.log")
    }

    fn writers(&self, options: &LogOptions) -> (Writer, Writer) {
        fs::create_dir_all(self.path().parent().unwrap()).unwrap();
        let (none, path) = (Streams::default(), self.path());
        let attached = self
            .logs
            .attach(&path, options, none, &self.tracker, &self.metrics);
        let Streams {
            stdin,
            stdout,
            stderr,
        } = attached;
        assert!(matches!(stdin, Source::Null));
        match (stdout, stderr) {
            (Sink::Writer(stdout), Sink::Writer(stderr)) => (stdout, stderr),
            other => panic!("{other:?}"),
        }
    }

    async fn reader(&self, logs: &LogFiles, ended: Option<Wait>) -> LogReader {
        let (path, query, follows) = (self.path(), LogQuery::default(), ended.is_some());
        let read = logs.read(&path, Rotation::default(), query, follows, ended).await;
        read.unwrap()
    }

    async fn text(&self) -> Vec<(Stream, String)> {
        let mut reader = self.reader(&self.logs, None).await;
        let mut all = Vec::new();
        while let Some(entries) = reader.next().await.unwrap() {
            all.extend(entries.into_iter().map(|entry| (entry.stream, entry.text)));
        }
        all
    }
}

fn pair(stream: Stream, text: &str) -> (Stream, String) {
    (stream, text.to_owned())
}

#[tokio::test]
async fn what_both_streams_write_can_be_read_in_its_order_and_the_files_are_closed_at_the_end() {
    let log = Log::new();
    let (mut out, mut err) = log.writers(&LogOptions::default());
    out.write_all(b"one\ntw").await.unwrap();
    err.write_all(b"error\n").await.unwrap();
    out.write_all(b"o\nend").await.unwrap();
    out.shutdown().await.unwrap();
    err.shutdown().await.unwrap();
    drop((out, err));
    let expected = [
        pair(Stream::Stdout, "one\n"),
        pair(Stream::Stderr, "error\n"),
        pair(Stream::Stdout, "two\n"),
        pair(Stream::Stdout, "end"),
    ];
    assert_eq!(log.text().await, expected);
    log.tracker.close();
    log.tracker.wait().await;
    // A second run of the container appends.
    let dir = File::open(log.path().parent().unwrap()).unwrap();
    assert!(FileLock::shared(dir).unwrap().is_some());
    log.tracker.reopen();
    let (mut out, err) = log.writers(&LogOptions::default());
    out.write_all(b"again\n").await.unwrap();
    out.shutdown().await.unwrap();
    let dir = || File::open(log.path().parent().unwrap()).unwrap();
    assert!(FileLock::shared(dir()).unwrap().is_none());
    drop((out, err));
    assert_eq!(log.text().await.last(), Some(&pair(Stream::Stdout, "again\n")));
}

#[tokio::test]
async fn a_follower_gets_each_entry_when_it_is_written_and_the_end_of_the_log() {
    let log = Log::new();
    let elsewhere = LogFiles::default();
    let (mut out, mut err) = log.writers(&LogOptions::default());
    let (end, ended) = watch_end();
    let over = || -> Wait {
        let mut ended = ended.clone();
        Box::pin(async move { drop(ended.changed().await) })
    };
    let mut readers = [
        log.reader(&log.logs, Some(over())).await,
        // As in another process.
        log.reader(&elsewhere, Some(over())).await,
    ];
    for text in ["a\n", "b\n", "c\n"] {
        out.write_all(text.as_bytes()).await.unwrap();
        for reader in &mut readers {
            let entries = reader.next().await.unwrap().unwrap();
            assert_eq!((entries[0].text.as_str(), entries.len()), (text, 1));
        }
    }
    end.send_replace(true);
    err.write_all(b"last").await.unwrap();
    err.shutdown().await.unwrap();
    out.shutdown().await.unwrap();
    drop((out, err));
    for mut reader in readers {
        assert_eq!(reader.next().await.unwrap().unwrap()[0].text, "last");
        assert_eq!(reader.next().await.unwrap(), None);
        assert_eq!(reader.next().await.unwrap(), None);
    }
}

fn watch_end() -> (
    tokio::sync::watch::Sender<bool>,
    tokio::sync::watch::Receiver<bool>,
) {
    tokio::sync::watch::channel(false)
}

#[tokio::test]
async fn the_parts_of_a_long_line_have_one_moment() {
    let log = Log::new();
    let (mut out, err) = log.writers(&LogOptions::default());
    for _ in 0..3 {
        out.write_all(&[b'x'; 16 << 10]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    out.write_all(b"end\nnext\n").await.unwrap();
    out.shutdown().await.unwrap();
    drop((out, err));
    let mut reader = log.reader(&log.logs, None).await;
    let mut entries = Vec::new();
    while let Some(more) = reader.next().await.unwrap() {
        entries.extend(more);
    }
    let sizes: Vec<_> = entries.iter().map(|entry| entry.text.len()).collect();
    assert_eq!(sizes, [16384, 16384, 16384, 4, 5]);
    let times: Vec<_> = entries.iter().map(LogEntry::stamp).collect();
    assert!(
        times[..4].iter().all(|time| *time == times[0]) && times[4] > times[0],
        "{times:?}"
    );
}

#[tokio::test]
async fn files_that_cannot_be_written_lose_entries_and_stop_nobody() {
    let log = Log::new();
    // Every write fails with ENOSPC (full(4)).
    fs::create_dir_all(log.path().parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", log.path()).unwrap();
    let (mut out, err) = log.writers(&LogOptions::default());
    for _ in 0..200 {
        out.write_all(&[b'\n'; 1000]).await.unwrap();
    }
    out.shutdown().await.unwrap();
    drop((out, err));
    assert_eq!(log.metrics.value("fnctr_lost_log_messages_total"), 200_000);
}

#[tokio::test]
async fn a_stream_waits_for_files_that_take_something_and_not_for_those_that_take_nothing() {
    let log = Log::new();
    fs::create_dir_all(log.path().parent().unwrap()).unwrap();
    // A fifo takes nothing until it is read.
    nix::unistd::mkfifo(&log.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = log.path();
    let (read, go) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        let mut fifo = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        go.recv().unwrap();
        let mut first = [0; 9];
        io::Read::read_exact(&mut fifo, &mut first).unwrap();
        first
    });
    while fs::metadata(log.path()).is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (mut out, err) = log.writers(&LogOptions::default());
    let line = [vec![b'x'; 9999], vec![b'\n']].concat();
    for _ in 0..1000 {
        out.write_all(&line).await.unwrap();
    }
    let lost = log.metrics.value("fnctr_lost_log_messages_total");
    assert!((700..1000).contains(&lost), "{lost}");
    read.send(()).unwrap();
    assert_eq!(&reader.join().unwrap(), b"{\"log\":\"x");
    drop((out, err));
}
