//! A command that is killed at any point of its work: the next ones find what it left, remove it, and the container of
//! that name can be used.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::time::Instant;

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
