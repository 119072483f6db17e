//! What happens is told: once, in order, and later too.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::cli::fnctr;
use crate::habits::ok;
use crate::patience::patient;
use crate::world::Stage;

/// The events since the beginning, until now.
fn told(stage: &Stage, filters: &[&str]) -> Vec<Value> {
    let mut args = vec!["--json", "events", "--since", "0", "--until", "0s"];
    filters
        .iter()
        .for_each(|filter| args.extend(["--filter", filter]));
    let text = ok(stage, &args);
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn words(event: &Value) -> String {
    let word = |name: &str| event[name].as_str().expect("a text").to_owned();
    let code = event["attributes"]["exitCode"].as_str();
    let code = code.map(|code| format!(" {code}")).unwrap_or_default();
    format!("{} {} {}{code}", word("type"), word("action"), word("id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_whole_story_is_told_once_and_in_order() {
    let Some(set) = Stage::set("a_containers_whole_story").await else {
        return;
    };
    let stage = &set;
    ok(
        stage,
        &[
            "create", "--name", "kept", "--label", "team=a", "busybox", "sh", "-c", "exit 4",
        ],
    );
    for _ in 0..2 {
        ok(stage, &["start", "kept"]);
        ok(stage, &["wait", "kept"]);
    }
    ok(stage, &["rm", "kept"]);
    ok(stage, &["run", "--name", "brief", "busybox", "true"]);
    ok(stage, &["run", "-d", "--name", "long", "busybox", "sleep", "60"]);
    ok(stage, &["freeze", "long"]);
    ok(stage, &["thaw", "long"]);
    ok(stage, &["kill", "long"]);
    ok(stage, &["wait", "long"]);
    ok(stage, &["rm", "long"]);
    ok(stage, &["tag", "busybox", "other:1"]);
    ok(stage, &["rmi", "other:1"]);
    let all: Vec<_> = told(stage, &["type=container"]).iter().map(words).collect();
    assert_eq!(
        all,
        [
            "container create kept",
            "container start kept",
            "container die kept 4",
            "container start kept",
            "container die kept 4",
            "container destroy kept",
            "container create brief",
            "container start brief",
            "container die brief 0",
            "container destroy brief",
            "container create long",
            "container start long",
            "container pause long",
            "container unpause long",
            "container kill long",
            "container die long 137",
            "container destroy long",
        ]
    );
    let images: Vec<_> = told(stage, &["type=image"]).iter().map(words).collect();
    assert_eq!(
        images,
        [
            "image tag docker.io/library/other:1",
            "image untag docker.io/library/other:1"
        ]
    );
    let of_team: Vec<_> = told(stage, &["label=team=a"]).iter().map(words).collect();
    assert_eq!(of_team, ["container create kept"]);
    let deaths: Vec<_> = told(stage, &["event=die", "container=kept"])
        .iter()
        .map(words)
        .collect();
    assert_eq!(deaths, ["container die kept 4"; 2]);
    let times: Vec<_> = told(stage, &[])
        .iter()
        .map(|event| event["time"].to_string())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_waits_hears_of_what_nobody_else_looks_after() {
    let Some(set) = Stage::set("a_reader_that_waits").await else {
        return;
    };
    let stage = &set;
    let mut reader = fnctr(
        stage,
        &["events", "--format", "{{.Action}} {{.ID}} {{.ExitCode}}"],
    )
    .stdout(Stdio::piped())
    .spawn()
    .expect("to run fnctr");
    let lines = BufReader::new(reader.stdout.take().expect("its output")).lines();
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tx.send(line)));
    let wait = patient(Duration::from_secs(30));
    let next = || rx.recv_timeout(wait).expect("an event").trim_end().to_owned();
    // Until it follows, what happens is not for it.
    let until = Instant::now() + wait;
    while rx.try_recv().is_err() {
        assert!(Instant::now() < until, "no event is heard");
        ok(stage, &["tag", "busybox", "probe:1"]);
    }
    ok(
        stage,
        &[
            "run",
            "-d",
            "--name",
            "alone",
            "busybox",
            "sh",
            "-c",
            "sleep 0.5; exit 9",
        ],
    );
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last: &String| !last.starts_with("die ")) {
        let line = next();
        if line.contains("alone") {
            heard.push(line);
        }
    }
    assert_eq!(heard, ["create alone", "start alone", "die alone 9"]);
    let pid = nix::unistd::Pid::from_raw(reader.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("to signal it");
    assert_eq!(reader.wait().expect("its end").code(), Some(0));
    ok(stage, &["rm", "alone"]);
    ok(stage, &["rmi", "probe:1"]);
    set.strike().await;
}
