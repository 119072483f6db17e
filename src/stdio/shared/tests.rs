use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::*;
use crate::Context;
use crate::stdio::{Reader, Sink, Source, Stream, Writer};

fn writer(sink: Sink) -> Writer {
    match sink {
        Sink::Writer(writer) => writer,
        Sink::Null | Sink::Left => panic!("a sink without a writer"),
    }
}

fn reader(source: Source) -> Reader {
    match source {
        Source::Reader(reader) => reader,
        Source::Null => panic!("a null source"),
    }
}

/// All that a reader gets, and why it ends.
async fn all(listener: &mut Listener) -> (String, Over) {
    let mut text = Vec::new();
    loop {
        match listener.next().await {
            Ok(chunk) => text.extend_from_slice(&chunk.bytes),
            Err(over) => return (String::from_utf8(text).unwrap(), over),
        }
    }
}

#[tokio::test]
async fn each_reader_gets_all_output_from_its_own_beginning() {
    let hub = Hub::default();
    let mut before = hub.listen(Wants::ALL);
    let (mut out, mut err) = (writer(hub.sink(Stream::Stdout)), writer(hub.sink(Stream::Stderr)));
    out.write_all(b"a").await.unwrap();
    let mut later = hub.listen(Wants::ALL);
    let mut errors = hub.listen(Wants {
        stdout: false,
        stderr: true,
    });
    err.write_all(b"b").await.unwrap();
    out.write_all(b"c").await.unwrap();
    out.shutdown().await.unwrap();
    err.write_all(b"d").await.unwrap();
    err.shutdown().await.unwrap();
    assert_eq!(all(&mut before).await, ("abcd".to_owned(), Over::Ended));
    assert_eq!(all(&mut later).await, ("bcd".to_owned(), Over::Ended));
    assert_eq!(all(&mut errors).await, ("bd".to_owned(), Over::Ended));
}

#[tokio::test]
async fn a_reader_that_waits_for_the_next_run_does_not_get_the_end_of_the_last_one() {
    let hub = Hub::default();
    writer(hub.sink(Stream::Stdout)).shutdown().await.unwrap();
    let mut waiting = hub.listen(Wants::ALL);
    assert!(
        tokio::time::timeout(Duration::ZERO, waiting.next())
            .await
            .is_err()
    );
    let mut out = writer(hub.sink(Stream::Stdout));
    out.write_all(b"again").await.unwrap();
    out.shutdown().await.unwrap();
    assert_eq!(all(&mut waiting).await, ("again".to_owned(), Over::Ended));
    let mut given_up = hub.listen(Wants::ALL);
    drop(hub.sink(Stream::Stdout));
    assert_eq!(given_up.next().await, Err(Over::HolderGone));
}

#[tokio::test]
async fn nothing_is_held_for_readers_that_have_left_or_never_came() {
    let hub = Hub::default();
    let mut out = writer(hub.sink(Stream::Stdout));
    let text = vec![b'x'; 3 << 20];
    out.write_all(&text).await.unwrap();
    let (left, mut stays) = (hub.listen(Wants::ALL), hub.listen(Wants::ALL));
    out.write_all(b"one").await.unwrap();
    drop(left);
    assert_eq!(stays.next().await.unwrap().bytes[..], *b"one");
    drop(stays);
    out.write_all(&text).await.unwrap();
    assert!(format!("{hub:?}").contains("chunks: []"), "{hub:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_slows_the_output_down_and_one_that_takes_nothing_is_cut_off() {
    let hub = Hub::default();
    let (mut slow, mut stalled) = (hub.listen(Wants::ALL), hub.listen(Wants::ALL));
    let mut out = writer(hub.sink(Stream::Stdout));
    let text = vec![b'x'; 4 << 20];
    let began = Instant::now();
    let reading = async {
        let mut taken = 0;
        while taken < text.len() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            taken += slow
                .next()
                .await
                .expect("output for a reader that takes some")
                .bytes
                .len();
        }
    };
    let writing = async {
        for part in text.chunks(256 << 10) {
            out.write_all(part).await.unwrap();
        }
    };
    tokio::join!(writing, reading);
    // One chunk a second, and the others waited for the one that was cut off.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let (taken, over) = all(&mut stalled).await;
    assert_eq!((taken.len(), over), (0, Over::CutOff));
}

#[tokio::test(start_paused = true)]
async fn the_output_waits_for_a_patient_reader_as_long_as_it_takes() {
    let hub = Hub::default();
    let mut patient = hub.listen_patiently(Wants::ALL);
    let mut stalled = hub.listen(Wants::ALL);
    let mut out = writer(hub.sink(Stream::Stdout));
    let text = vec![b'x'; 4 << 20];
    let writing = async {
        for part in text.chunks(256 << 10) {
            out.write_all(part).await.unwrap();
        }
        out.shutdown().await.unwrap();
    };
    let reading = async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        all(&mut patient).await
    };
    let ((), (taken, over)) = tokio::join!(writing, reading);
    assert_eq!((taken.len(), over), (text.len(), Over::Ended));
    assert_eq!(all(&mut stalled).await.1, Over::CutOff);
}

/// Its pipes hold some bytes beyond the backlog; nobody removes the run before they are read from them.
#[tokio::test(start_paused = true)]
async fn what_is_left_of_the_output_of_a_process_that_has_ended_waits_for_nobody() {
    let hub = Hub::default();
    let mut patient = hub.listen_patiently(Wants::ALL);
    let mut out = writer(hub.sink(Stream::Stdout));
    let text = vec![b'x'; 3 << 20];
    let writing = async {
        for part in text.chunks(256 << 10) {
            out.write_all(part).await.unwrap();
        }
        out.shutdown().await.unwrap();
    };
    let exit = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        hub.exited();
    };
    let began = Instant::now();
    tokio::join!(writing, exit);
    assert_eq!(began.elapsed().as_secs(), 60);
    let (taken, over) = all(&mut patient).await;
    assert_eq!((taken.len(), over), (text.len(), Over::Ended));
}

#[tokio::test]
async fn readers_of_a_run_that_will_not_come_get_the_end_and_those_of_a_current_one_do_not() {
    let hub = Hub::default();
    let mut before = hub.listen(Wants::ALL);
    assert!(hub.end());
    assert_eq!(before.next().await, Err(Over::Ended));
    let mut during = hub.listen(Wants::ALL);
    let mut out = writer(hub.sink(Stream::Stdout));
    assert!(!hub.end());
    out.write_all(b"text").await.unwrap();
    out.shutdown().await.unwrap();
    let (taken, over) = all(&mut during).await;
    assert_eq!((taken.as_str(), over), ("text", Over::Ended));
}

#[tokio::test]
async fn input_that_is_written_before_the_start_is_kept_and_writers_come_and_go() {
    let input = SharedInput::default();
    let (mut first, mut second) = (input.writer(false), input.writer(true));
    first.write_all(b"one ").await.unwrap();
    first.shutdown().await.unwrap();
    drop(first);
    second.write_all(b"two").await.unwrap();
    second.shutdown().await.unwrap();
    let mut text = String::new();
    reader(input.source()).read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "one two");
    assert!(second.write_all(b"late").await.is_err());
}

#[tokio::test]
async fn what_a_run_has_not_read_is_not_the_next_runs_input() {
    let input = SharedInput::default();
    let mut of_first = input.writer(true);
    of_first.write_all(b"first").await.unwrap();
    drop(reader(input.source()));
    assert!(of_first.write_all(b"more").await.is_err());
    let mut of_second = input.writer(true);
    of_second.write_all(b"second").await.unwrap();
    of_second.shutdown().await.unwrap();
    let mut text = String::new();
    reader(input.source()).read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "second");
}

/// A directory whose path is longer than the address of a socket.
fn long_dir() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d".repeat(120));
    std::fs::create_dir(&path).unwrap();
    (dir, path)
}

#[tokio::test]
async fn another_process_reads_and_writes_the_streams_through_a_socket() {
    let (_dir, dir) = long_dir();
    assert!(Remote::connect(&dir, Wants::ALL).await.unwrap().is_none());
    let (hub, input) = (Hub::default(), SharedInput::default());
    let (tracker, life) = (TaskTracker::new(), Context::new());
    let hold = StreamsLock::take(&dir).unwrap().expect("nobody has it");
    hold.serve(hub.clone(), Some(input.clone()), &tracker, &life)
        .unwrap();
    assert!(
        StreamsLock::take(&dir).unwrap().is_none(),
        "two holders of one container's streams"
    );
    let (mut out, mut source) = (writer(hub.sink(Stream::Stdout)), reader(input.source()));

    let remote = Remote::connect(&dir, Wants::ALL)
        .await
        .unwrap()
        .expect("a holder");
    assert!(remote.has_input());
    let (mut listener, mut to) = remote.into_parts();
    out.write_all(b"hello").await.unwrap();
    let chunk = listener.next().await.unwrap();
    assert_eq!((chunk.stream, &chunk.bytes[..]), (Stream::Stdout, &b"hello"[..]));
    to.write_all(b"input").await.unwrap();
    to.shutdown().await.unwrap();
    let mut text = [0; 5];
    source.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"input");
    // The input is its owner's, who alone ends it.
    let mut owner = input.writer(true);
    owner.write_all(b" more").await.unwrap();
    owner.shutdown().await.unwrap();
    let mut text = String::new();
    source.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, " more");
    // Its own side is closed, and it still gets the output.
    out.write_all(b"bye").await.unwrap();
    assert_eq!(listener.next().await.unwrap().bytes[..], *b"bye");
    out.shutdown().await.unwrap();
    assert_eq!(listener.next().await, Err(Over::Ended));

    drop((listener, to, hold));
    life.cancel();
    tracker.close();
    tracker.wait().await;
    let again = StreamsLock::take(&dir).unwrap().expect("its holder has ended");
    again
        .serve(hub, None, &TaskTracker::new(), &Context::new())
        .unwrap();
    let remote = Remote::connect(&dir, Wants::ALL)
        .await
        .unwrap()
        .expect("a new holder");
    assert!(!remote.has_input());
}

#[tokio::test]
async fn a_reader_learns_that_the_holder_has_ended() {
    let (_dir, dir) = long_dir();
    let (tracker, life) = (TaskTracker::new(), Context::new());
    let hub = Hub::default();
    let hold = StreamsLock::take(&dir).unwrap().expect("nobody has it");
    hold.serve(hub.clone(), None, &tracker, &life).unwrap();
    let out = hub.sink(Stream::Stdout);
    let remote = Remote::connect(&dir, Wants::ALL)
        .await
        .unwrap()
        .expect("a holder");
    let (mut listener, _to) = remote.into_parts();
    drop(out);
    assert_eq!(listener.next().await, Err(Over::HolderGone));
}

#[tokio::test]
async fn a_second_destination_gets_what_the_first_has_taken() {
    let hub = Hub::default();
    let mut listener = hub.listen(Wants::ALL);
    let (mut near, far) = tokio::io::duplex(2);
    let mut tee = Tee::new(far, hub.writer(Stream::Stderr));
    let written = async {
        tee.write_all(b"hello").await.unwrap();
        tee.shutdown().await.unwrap();
    };
    let mut text = String::new();
    let ((), read) = tokio::join!(written, near.read_to_string(&mut text));
    read.unwrap();
    assert_eq!(text, "hello");
    drop(tee);
    assert_eq!(all(&mut listener).await, ("hello".to_owned(), Over::Ended));
}
