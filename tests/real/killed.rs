//! A command that is killed at any point of its work: the next ones find what it left, remove it, and the container of
//! that name can be used.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::beside::Beside;
use crate::cli::fnctr;
use crate::habits::ok;
use crate::patience::patient;
use crate::world::Stage;

/// What a command is tried on, and how it is brought about.
type Before = &'static [&'static [&'static str]];

const RUNS: &[&str] = &["run", "-d", "--name", "c", "busybox", "sleep", "600"];
const CREATED: &[&str] = &["create", "--name", "c", "busybox", "sleep", "600"];

fn run(stage: &Stage, args: &[&str], variable: (&str, &str)) -> Output {
    let mut command = fnctr(stage, args);
    command
        .env(variable.0, variable.1)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.output().expect("to run fnctr")
}

/// The points that a command reaches.
fn points(stage: &Stage, before: Before, args: &[&str]) -> BTreeSet<String> {
    before.iter().for_each(|args| drop(ok(stage, args)));
    let log: PathBuf = stage.real.dir().join("points");
    let done = run(stage, args, ("FNCTR_FAILPOINT_LOG", &log.display().to_string()));
    assert!(
        done.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let text = std::fs::read_to_string(&log).expect("the log of points");
    std::fs::remove_file(log).expect("to remove it");
    clean(stage);
    text.lines().map(str::to_owned).collect()
}

/// Removes the container, if there is one, after all that needs no container is gone.
fn clean(stage: &Stage) {
    let until = Instant::now() + patient(Duration::from_secs(60));
    while !ok(stage, &["reconcile"]).is_empty() {
        assert!(Instant::now() < until, "there is always something left");
    }
    for id in ok(stage, &["ps", "-aq"]).lines() {
        ok(stage, &["rm", "-f", id]);
    }
}

/// Kills the command at each point that it reaches, and looks at what that leaves.
async fn killed_everywhere(test: &str, before: Before, args: &'static [&'static str], least: usize) {
    let Some(stage) = Stage::set(test).await else {
        return;
    };
    // The command's own directories are made once, and stay.
    ok(&stage, &["run", "busybox", "true"]);
    let points = points(&stage, before, args);
    assert!(points.len() >= least, "{points:?}");
    for point in &points {
        before.iter().for_each(|args| drop(ok(&stage, args)));
        let done = run(&stage, args, ("FNCTR_FAILPOINT", point));
        assert_eq!(done.status.signal(), Some(9), "{args:?} does not reach {point}");
        clean(&stage);
        // The name is free, and everything works.
        ok(&stage, &["run", "--name", "c", "busybox", "true"]);
        assert_eq!(ok(&stage, &["reconcile"]), "", "after a kill at {point}");
    }
    println!("--- {test}: killed at {points:?}");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_anywhere_leaves_nothing_that_stays() {
    let args = &["run", "--name", "c", "busybox", "true"];
    killed_everywhere("a_run_that_is_killed_anywhere", &[], args, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_killed_anywhere_can_be_cleaned_up() {
    killed_everywhere("a_start_that_is_killed_anywhere", &[CREATED], &["start", "c"], 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_is_killed_anywhere_can_be_cleaned_up() {
    let args = &["stop", "-s", "KILL", "c"];
    killed_everywhere("a_stop_that_is_killed_anywhere", &[RUNS], args, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_killed_anywhere_is_finished_by_the_next_command() {
    killed_everywhere(
        "a_removal_that_is_killed_anywhere",
        &[RUNS],
        &["rm", "-f", "c"],
        4,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_under_way_is_a_state_of_the_container() {
    let Some(set) = Stage::set("a_removal_that_is_under_way").await else {
        return;
    };
    let stage = &set;
    ok(stage, CREATED);
    let mut removal = fnctr(stage, &["rm", "c"]);
    removal.env("FNCTR_STOP_POINT", "undone:snapshot");
    let removal = Beside::of(removal);
    removal.is_stopped();
    let states = |args: &[&str]| ok(stage, &[&["ps", "--format", "{{.ID}} {{.State}}"], args].concat());
    assert_eq!(states(&["-a"]), "c removing\n");
    assert_eq!(states(&[]), "");
    assert_eq!(states(&["--filter", "status=removing"]), "c removing\n");
    // The process that removes it lives.
    assert_eq!(ok(stage, &["reconcile", "--dry-run"]), "");
    let start = Beside::start(stage, &["start", "c"]);
    removal.signal(Signal::SIGCONT);
    assert_eq!(removal.end().0, Some(0));
    let (code, _, said) = start.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no such container"), "{said}");
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_by_an_hour_changes_nothing() {
    let Some(set) = Stage::set("a_clock_that_is_set_back").await else {
        return;
    };
    let stage = &set;
    let back = |args: &[&str]| {
        let mut command = fnctr(stage, args);
        let done = command
            .env("FNCTR_CLOCK_OFFSET", "-3600")
            .output()
            .expect("to run fnctr");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{args:?}: {said}{err}");
        assert_eq!(err, "", "{args:?}");
        said
    };
    let states = |expected: &str| {
        let said = back(&["ps", "-a", "--format", "{{.ID}} {{.Status}}"]);
        assert_eq!(said.trim(), expected);
    };
    ok(stage, &["run", "-d", "--name", "c", "busybox", "sleep", "600"]);
    states("c running");
    // Its owner has left it, and the deadline of another is not later than it was.
    let mut late = fnctr(stage, &["run", "--rm=false", "--timeout", "2s", "--name", "late"]);
    late.args(["busybox", "sleep", "600"])
        .stdout(std::process::Stdio::null());
    let mut late = late.spawn().expect("to run fnctr");
    let until = Instant::now() + patient(Duration::from_secs(20));
    while !ok(stage, &["ps", "-q", "--filter", "status=running"]).contains("late") {
        assert!(Instant::now() < until, "it does not run");
    }
    late.kill().expect("to kill it");
    late.wait().expect("its end");
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The next command ends it.
    while back(&["ps", "-a", "--filter", "name=late", "--format", "{{.Status}}"]).trim() != "exited (137)" {
        assert!(
            Instant::now() < until + patient(Duration::from_secs(20)),
            "its deadline is later"
        );
    }
    back(&["rm", "late"]);
    back(&["kill", "c"]);
    assert_eq!(back(&["wait", "c"]), "137\n");
    states("c exited (137)");
    assert_eq!(back(&["start", "c"]), "c\n");
    states("c running");
    back(&["freeze", "c"]);
    states("c frozen");
    assert_eq!(back(&["restart", "-t", "0", "c"]), "c\n");
    let events = back(&["events", "--since", "1970-01-01T00:00:00Z", "--until", "0s"]);
    assert!(!events.is_empty());
    assert_eq!(back(&["run", "busybox", "echo", "hi"]), "hi\n");
    assert_eq!(back(&["reconcile"]), "");
    back(&["rm", "-f", "c"]);
    set.strike().await;
}
