//! `fnctr stats` from outside: live, once, as JSON, of containers that other processes made.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cli::fnctr;
use crate::stats::Measured;
use crate::world::{Stage, ctx};

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_round_shows_running_and_frozen_containers_of_another_process() {
    let Some(stage) = Stage::set("one_round_shows").await else {
        return;
    };
    let busy = Measured::start(&stage, stage.task(""), "while :; do :; done").await;
    let still = Measured::start(&stage, stage.task(""), "sleep 600").await;
    still.cookie.freeze(&ctx()).await.expect("to freeze");

    let done = fnctr(&stage, &["--json", "stats", "--once"])
        .output()
        .expect("to run fnctr");
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(
        done.status.code(),
        Some(0),
        "{out}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let reports: Vec<_> = out.lines().map(json).collect();
    assert_eq!(reports.len(), 2, "{out}");
    let of = |state: &str| {
        let found = reports.iter().find(|report| report["state"] == state);
        found
            .unwrap_or_else(|| panic!("nothing {state} in {out}"))
            .clone()
    };
    let (running, frozen) = (of("running"), of("frozen"));
    // A busy loop that wants a whole core gets something in half a second; what is frozen gets nothing.
    assert!(running["metrics"]["cpu_total"].as_u64() > Some(0), "{running}");
    assert_eq!(frozen["metrics"]["cpu_total"], 0, "{frozen}");
    for report in [&running, &frozen] {
        assert_eq!(report["metrics"]["mem_limit"], 64 << 20, "{report}");
        assert!(
            report["pid"].as_u64() > Some(1) && report["timestamp"].is_string(),
            "{report}"
        );
    }

    let id = running["id"].as_str().expect("an id");
    let done = fnctr(&stage, &["stats", "--once", id])
        .output()
        .expect("to run fnctr");
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(
        lines[0].starts_with("ID") && lines[0].contains("PRESSURE"),
        "{out}"
    );
    assert!(
        lines[1].starts_with(id) && lines[1].contains("%") && !out.contains('\x1b'),
        "{out}"
    );

    let done = fnctr(&stage, &["stats", "--once", id, "nobody"])
        .output()
        .expect("to run fnctr");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let inspect = fnctr(&stage, &["inspect", "nobody"])
        .output()
        .expect("to run fnctr");
    assert_eq!(
        (done.status.code(), said.as_str()),
        (
            inspect.status.code(),
            "fnctr: cannot find nobody: no such container\n"
        )
    );
    assert!(done.stdout.is_empty());
    busy.close().await;
    still.close().await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_go_on_until_a_signal_or_the_end_of_all_that_were_named() {
    let Some(stage) = Stage::set("rounds_go_on").await else {
        return;
    };
    let measured = Measured::start(&stage, stage.task(""), "sleep 600").await;
    let start = |args: &[&str]| {
        let mut command = fnctr(&stage, args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("to run fnctr");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        (child, out)
    };
    let interrupt = |child: &std::process::Child| {
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).expect("to interrupt");
    };
    let (mut child, mut out) = start(&["--json", "stats"]);
    for _ in 0..3 {
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert_eq!(json(&line)["state"], "running");
    }
    interrupt(&child);
    assert_eq!(child.wait().expect("an end").code(), Some(0));

    // Whoever reads one line and goes away ends it too.
    let (mut child, mut out) = start(&["--json", "stats"]);
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    let id = json(&line)["id"].as_str().expect("an id").to_owned();
    drop(out);
    assert_eq!(child.wait().expect("an end").code(), Some(141));

    let (mut child, mut out) = start(&["--json", "stats", &id]);
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    measured.close().await;
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{rest}");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_container_is_killed_or_refused_by_name() {
    let Some(stage) = Stage::set("a_whole_container").await else {
        return;
    };
    let args = ["run", "--memory", "24m", "--oom-group", "busybox", "sh", "-c"];
    let script = "tail /dev/zero; echo outlived";
    let done = fnctr(&stage, &[&args[..], &[script]].concat())
        .output()
        .expect("to run fnctr");
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert_eq!(out, "", "{err}");
    match done.status.code() {
        Some(137) => assert!(err.contains("the container's own limit of 24m was hit"), "{err}"),
        Some(125) => assert!(err.contains("--oom-group cannot be enforced"), "{err}"),
        other => panic!("{other:?}: {err}"),
    }
    stage.strike().await;
}
