//! Attaching to containers whose streams this process, another one, or none holds.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::beside::{Beside, spawn};
use crate::habits::{ok, refused};
use crate::patience::patient;
use crate::world::Stage;

/// Answers each line of its input, and ends with code 7 at the input's end.
const ANSWERS: &str = "while read line; do echo got $line; echo err $line >&2; done; exit 7";

/// The fifo of the container's input.
fn fifo(stage: &Stage, id: &str) -> std::path::PathBuf {
    let dir = stage.real.dir().join("cli/fifos").join(stage.real.namespace());
    dir.join(id).join("stdin")
}

/// Waits until the container is running.
async fn runs(stage: &Stage, id: &str) {
    let until = Instant::now() + patient(Duration::from_secs(20));
    while ok(stage, &["ps", "-q", "--filter", "status=running"]).trim() != id {
        assert!(Instant::now() < until, "{id} does not run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tries until a command can attach to the container, and returns it.
async fn attached(stage: &Stage, id: &str) -> Beside {
    runs(stage, id).await;
    Beside::start(stage, &["attach", id])
}

#[tokio::test(flavor = "multi_thread")]
async fn several_read_and_write_one_container_and_one_that_leaves_disturbs_nobody() {
    let Some(set) = Stage::set("several_read_and_write").await else {
        return;
    };
    let stage = &set;
    ok(
        stage,
        &["create", "--name", "chat", "busybox", "sh", "-c", ANSWERS],
    );
    refused(stage, &["attach", "chat"], 1, "it is not running");
    let mut first = Beside::start(stage, &["start", "-a", "-i", "chat"]);
    let mut second = attached(stage, "chat").await;
    let mut third = attached(stage, "chat").await;
    // From its own beginning: the others have it before they say anything.
    first.say("zero");
    assert_eq!(first.hear(), "got zero");
    for (one, line) in [(&mut first, "one"), (&mut third, "three"), (&mut second, "two")] {
        one.say(line);
    }
    let mut heard = [first.hear(), first.hear(), first.hear()];
    heard.sort();
    assert_eq!(heard, ["got one", "got three", "got two"]);
    third.signal(Signal::SIGKILL);
    drop(third.child.wait());
    // The end of another's input is not the end of the container's.
    let stdin = second.child.stdin.take();
    drop(stdin);
    first.say("four");
    assert_eq!(first.hear(), "got four");
    let (code, out, err) = first.end();
    assert_eq!((code, out), (Some(7), Vec::new()));
    assert_eq!(
        err.lines().filter(|line| line.starts_with("err ")).count(),
        5,
        "{err}"
    );
    let (code, out, _) = second.end();
    assert_eq!(code, Some(7), "it ends as the container has");
    assert_eq!(out.last().map(String::as_str), Some("got four"), "{out:?}");
    assert_eq!(ok(stage, &["wait", "chat"]), "7\n");
    ok(stage, &["rm", "chat"]);
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_a_killed_holder_are_taken_over_and_nothing_in_the_pipe_is_lost() {
    let Some(set) = Stage::set("the_streams_of_a_killed_holder").await else {
        return;
    };
    let stage = &set;
    ok(
        stage,
        &["create", "--name", "chat", "busybox", "sh", "-c", ANSWERS],
    );
    let mut holder = Beside::start(stage, &["start", "-a", "-i", "chat"]);
    holder.say("first");
    assert_eq!(holder.hear(), "got first");
    let mut reader = attached(stage, "chat").await;
    reader.say("reader");
    assert_eq!(holder.hear(), "got reader");
    // While nobody reads, the answer stays in the pipe.
    holder.stop();
    let fifo = std::fs::OpenOptions::new()
        .write(true)
        .open(fifo(stage, "chat"))
        .and_then(|mut fifo| fifo.write_all(b"second\n"));
    fifo.expect("to write to its input");
    tokio::time::sleep(patient(Duration::from_millis(500))).await;
    holder.signal(Signal::SIGKILL);
    drop(holder.child.wait());
    let mut err = BufReader::new(reader.child.stderr.take().expect("its errors"));
    let mut lines = (&mut err).lines().map(|line| line.expect("a line"));
    assert!(lines.any(|line| line.contains("to take the streams over")));
    let mut next = Beside::start(stage, &["attach", "chat"]);
    assert_eq!(next.hear(), "got second");
    next.say("third");
    assert_eq!(next.hear(), "got third");
    let (code, ..) = next.end();
    assert_eq!(code, Some(7));
    assert_eq!(reader.child.wait().expect("its end").code(), Some(7));
    ok(stage, &["rm", "chat"]);
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_be_watched_and_what_has_no_streams_says_so() {
    let Some(set) = Stage::set("a_run_can_be_watched").await else {
        return;
    };
    let stage = &set;
    let ticks = "trap 'exit 3' TERM; while :; do echo tick; sleep 0.1; done";
    let run = Beside::start(stage, &["run", "--name", "clock", "busybox", "sh", "-c", ticks]);
    let watcher = attached(stage, "clock").await;
    assert_eq!(watcher.hear(), "tick");
    // Its signals are the container's.
    watcher.signal(Signal::SIGTERM);
    let (code, ..) = watcher.end();
    assert_eq!(code, Some(3));
    let (code, out, _) = run.end();
    assert_eq!(code, Some(3));
    assert_eq!(out.first().map(String::as_str), Some("tick"), "{out:?}");
    ok(stage, &["run", "-d", "--name", "quiet", "busybox", "sleep", "60"]);
    refused(stage, &["attach", "quiet"], 1, "its output is discarded");
    ok(stage, &["rm", "-f", "quiet"]);
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_stopped_holds_the_container_up_for_a_bounded_time() {
    let Some(set) = Stage::set("a_reader_that_is_stopped").await else {
        return;
    };
    let stage = &set;
    let floods = "read a; echo ready; read b; head -c 20000000 /dev/zero; sleep 60";
    ok(
        stage,
        &["create", "--name", "flood", "busybox", "sh", "-c", floods],
    );
    let mut holder = spawn(stage, &["start", "-a", "-i", "flood"]);
    let mut out = holder.stdout.take().expect("its output");
    let mut stopped = attached(stage, "flood").await;
    stopped.say("attached");
    let mut ready = [0; 6];
    out.read_exact(&mut ready).expect("its answer");
    assert_eq!(&ready, b"ready\n");
    stopped.stop();
    let stdin = holder.stdin.as_mut().expect("its input");
    writeln!(stdin, "go").expect("to write to it");
    let mut all = vec![0; 20_000_000];
    out.read_exact(&mut all).expect("all of its output");
    stopped.signal(Signal::SIGCONT);
    let (code, _, err) = stopped.end();
    assert_eq!(code, Some(1));
    assert!(err.contains("the container runs on"), "{err}");
    ok(stage, &["kill", "flood"]);
    assert_eq!(holder.wait().expect("its end").code(), Some(137));
    ok(stage, &["rm", "flood"]);
    set.strike().await;
}
