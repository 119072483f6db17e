//! Containers whose `fnctr run` was killed: listed as what they are, ended at their deadline, removed on demand.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cli::fnctr;
use crate::patience::patient;
use crate::world::Stage;

fn out(mut command: Command) -> String {
    let done = command.output().expect("to run fnctr");
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{command:?}\n{out}\n{err}");
    out.into_owned()
}

/// Every container with its state, and whether it is an orphan.
fn ps(stage: &Stage) -> BTreeMap<String, (String, bool)> {
    let lines = out(fnctr(stage, &["--json", "ps"]));
    let rows = lines.lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let word = |key: &str| row[key].as_str().expect("a word").to_owned();
        let orphaned = row["orphaned"].as_bool().expect("yes or no");
        (word("id"), (word("state"), orphaned))
    });
    rows.collect()
}

fn states(of: &[(&str, bool)]) -> BTreeMap<String, (String, bool)> {
    let running = |(id, orphaned): &(&str, bool)| (id.to_string(), ("running".to_owned(), *orphaned));
    of.iter().map(running).collect()
}

/// Looks again until `ps` says so.
#[track_caller]
fn await_states(stage: &Stage, of: &[(&str, bool)]) {
    let expected = states(of);
    let until = tokio::time::Instant::now() + patient(Duration::from_secs(60));
    loop {
        let found = ps(stage);
        if found == expected {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{found:?}, not {expected:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start(stage: &Stage, name: &str, more: &[&str]) -> Child {
    let args: Vec<_> = ["run", "--name", name]
        .iter()
        .chain(more)
        .chain(&["busybox", "yes"])
        .copied()
        .collect();
    let mut command = fnctr(stage, &args);
    // A pipe that nobody reads any more once the process is killed, and that is full soon.
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("to run fnctr")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_run_was_killed_is_an_orphan_and_ends_at_its_deadline_or_by_prune() {
    let Some(stage) = Stage::set("a_container_whose_run_was_killed").await else {
        return;
    };
    out(fnctr(
        &stage,
        &["run", "--detach", "--name", "left", "busybox", "sleep", "600"],
    ));
    let mut lost = start(&stage, "lost", &[]);
    let mut late = start(&stage, "late", &["--timeout", "20s"]);
    await_states(&stage, &[("left", false), ("lost", false), ("late", false)]);
    for run in [&mut lost, &mut late] {
        run.kill().expect("to kill");
    }
    // Killed but not waited for, as by a supervisor that is gone too: a zombie looks after nothing.
    let before = ps(&stage);
    assert_eq!(before, states(&[("left", false), ("lost", true), ("late", true)]));
    for mut run in [lost, late] {
        run.wait().expect("to end");
    }
    let table = out(fnctr(&stage, &["ps"]));
    assert_eq!(table.matches("running, orphaned").count(), 2, "{table}");
    // Each look is the next process. None ends the others, which have no deadline.
    await_states(&stage, &[("left", false), ("lost", true)]);
    assert_eq!(out(fnctr(&stage, &["prune"])), "lost\n");
    assert_eq!(ps(&stage), states(&[("left", false)]));
    assert_eq!(out(fnctr(&stage, &["prune"])), "");
    out(fnctr(&stage, &["rm", "--force", "left"]));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_goes_on_ends_what_falls_due_meanwhile() {
    let Some(stage) = Stage::set("a_process_that_goes_on").await else {
        return;
    };
    let mut late = start(&stage, "late", &["--timeout", "6s"]);
    await_states(&stage, &[("late", false)]);
    late.kill().expect("to kill");
    late.wait().expect("to end");
    // It begins before the deadline, and would run for ten minutes.
    let mut other = start(&stage, "other", &["--stop-timeout", "1s"]);
    let until = tokio::time::Instant::now() + patient(Duration::from_secs(60));
    let shims = || crate::real::shims(&stage.real.address());
    let late_runs = || shims().iter().any(|shim| shim.command.contains(" late"));
    // containerd may call another one to clear up after it, for a moment.
    while late_runs() {
        assert!(tokio::time::Instant::now() < until, "{:?}", shims());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let pid = nix::unistd::Pid::from_raw(other.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("to signal");
    // Though nobody reads its output.
    let ended = other.wait().expect("to end");
    assert_eq!(ended.code(), Some(143));
    stage.strike().await;
}
