//! `fnctr serve`: what it does by itself while no other command runs, and what the next one has back when it is killed.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::beside::Beside;
use crate::habits::{ok, refused};
use crate::kernel::kernel;
use crate::patience::patient;
use crate::world::Stage;

/// Writes a line again and again.
const TALKS: &str = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.02; done";

/// A server that is ready, and the line that it printed.
fn serve(stage: &Stage) -> (Beside, String) {
    let server = Beside::start(stage, &["serve"]);
    let said = server.hear();
    (server, said)
}

/// Ends the server as an operator does, which leaves every container as it is.
fn end(server: Beside) {
    server.signal(Signal::SIGTERM);
    let (code, said, err) = server.end();
    assert_eq!((code, said.as_slice()), (Some(0), &[][..]), "{err}");
}

fn kill(server: Beside) {
    server.signal(Signal::SIGKILL);
    server.end();
}

pub(crate) fn ctr(stage: &Stage, args: &[&str]) -> String {
    let done = Command::new("ctr")
        .args(["--address", &stage.real.address().display().to_string()])
        .args(["--namespace", stage.real.namespace()])
        .args(args)
        .output()
        .expect("to run ctr");
    assert!(done.status.success(), "{done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Whether the end of a container's run is on its record. No command of fnctr is run, which would write it too.
pub(crate) fn is_settled(stage: &Stage, id: &str) -> bool {
    let record: Value = serde_json::from_str(&ctr(stage, &["containers", "info", id])).expect("JSON");
    record["Labels"]["io.fnctr.kept"] == "without-run"
}

/// What containerd says of a container's task.
fn task(stage: &Stage, id: &str) -> String {
    let tasks = ctr(stage, &["tasks", "list"]);
    let line = tasks.lines().find(|line| line.starts_with(id));
    let status = line.and_then(|line| line.split_whitespace().nth(2));
    status.unwrap_or_default().to_owned()
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + patient(Duration::from_secs(20));
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn states(stage: &Stage) -> Vec<String> {
    let said = ok(stage, &["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    let mut states: Vec<_> = said.lines().map(str::to_owned).collect();
    states.sort();
    states
}

fn run(stage: &Stage, name: &str, script: &str) {
    ok(
        stage,
        &["run", "-d", "--name", name, "busybox", "sh", "-c", script],
    );
}

/// The number of the next line of a container that [`TALKS`].
fn next_line(reader: &Beside) -> u32 {
    let line = reader.hear();
    let number = line.strip_prefix("line ").and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{line:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_server_and_another_is_refused_by_name() {
    let Some(set) = Stage::set("there_is_one_server").await else {
        return;
    };
    let stage = &set;
    let (server, said) = serve(stage);
    assert!(said.ends_with("0 containers, of which 0 run"), "{said}");
    let pid = format!("process {} is its server", server.child.id());
    refused(stage, &["serve"], 1, &pid);
    refused(stage, &["serve"], 1, "choose another --namespace");
    end(server);
    let (server, _) = serve(stage);
    kill(server);
    let (server, _) = serve(stage);
    end(server);
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_writes_ends_down_keeps_deadlines_and_holds_output_by_itself() {
    let Some(set) = Stage::set("a_server_writes_ends_down").await else {
        return;
    };
    let stage = &set;
    let (server, _) = serve(stage);
    run(stage, "ends", "sleep 1; exit 6");
    run(stage, "talks", TALKS);
    let mut late = vec!["run", "--rm=false", "--timeout", "3s", "--name", "late"];
    late.extend(["busybox", "sh", "-c", "echo begun; sleep 600"]);
    let owner = Beside::start(stage, &late);
    assert_eq!(owner.hear(), "begun");
    kill(owner);
    until("the end of a run is written", || is_settled(stage, "ends")).await;
    until("a container is ended at its deadline", || {
        is_settled(stage, "late")
    })
    .await;
    assert_eq!(
        states(stage),
        ["ends exited (6)", "late exited (137)", "talks running"]
    );
    // It does not wait for a reader, and one that comes gets all from its own beginning.
    let readers = [(); 2].map(|()| Beside::start(stage, &["attach", "talks"]));
    for reader in &readers {
        let first = next_line(reader);
        assert_eq!([next_line(reader), next_line(reader)], [first + 1, first + 2]);
    }
    for reader in readers {
        reader.signal(Signal::SIGKILL);
        reader.end();
    }
    // What another process makes, starts and removes is known at once, and one of the same name is another one.
    for code in ["3", "4"] {
        run(stage, "again", &format!("exit {code}"));
        assert_eq!(ok(stage, &["wait", "again"]), format!("{code}\n"));
        ok(stage, &["rm", "again"]);
    }
    ok(stage, &["start", "ends"]);
    until("the end of the second run is written", || {
        is_settled(stage, "ends")
    })
    .await;
    end(server);
    assert_eq!(states(stage)[2], "talks running");
    ok(stage, &["rm", "-f", "--all"]);
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_has_back_what_a_killed_one_had() {
    let Some(set) = Stage::set("the_next_server_has_back").await else {
        return;
    };
    let stage = &set;
    let (server, _) = serve(stage);
    ok(stage, &["create", "--name", "new", "busybox", "true"]);
    run(stage, "talks", TALKS);
    run(stage, "cold", "sleep 600");
    run(stage, "gap", "trap 'exit 9' TERM; sleep 600 & wait");
    run(stage, "over", "exit 4");
    ok(stage, &["freeze", "cold"]);
    until("the first end", || is_settled(stage, "over")).await;
    kill(server);
    ctr(stage, &["tasks", "kill", "--signal", "SIGTERM", "gap"]);
    until("an end that no process of fnctr has seen", || {
        task(stage, "gap") == "STOPPED"
    })
    .await;
    let (server, said) = serve(stage);
    assert!(said.ends_with("5 containers, of which 2 run"), "{said}");
    until("that end is written", || is_settled(stage, "gap")).await;
    let all = [
        "cold frozen",
        "gap exited (9)",
        "new created",
        "over exited (4)",
        "talks running",
    ];
    assert_eq!(states(stage), all);
    // Its streams are held again, so it goes on to write.
    let reader = Beside::start(stage, &["attach", "talks"]);
    let first = next_line(&reader);
    assert_eq!(next_line(&reader), first + 1);
    reader.signal(Signal::SIGKILL);
    reader.end();
    ok(stage, &["thaw", "cold"]);
    ok(stage, &["kill", "cold", "talks"]);
    for id in ["cold", "talks"] {
        until("an end is written", || is_settled(stage, id)).await;
        assert_eq!(ok(stage, &["wait", id]), "137\n");
    }
    ok(stage, &["rm", "--all"]);
    end(server);
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_on_when_containerd_was_killed_and_finds_the_ends_of_the_gap() {
    let Some(mut stage) = Stage::set("a_server_goes_on_when_containerd_was_killed").await else {
        return;
    };
    let (server, _) = serve(&stage);
    let many: Vec<String> = (0..20).map(|n| format!("many-{n}")).collect();
    for id in &many {
        run(&stage, id, "sleep 600");
    }
    run(&stage, "gap", "sleep 2; exit 9");
    stage.real.crash();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    stage.real.restart();
    // containerd 1.7 and newer clear away a shim whose process has ended with its code; the kernel keeps it for the
    // server since Linux 6.15.
    until("the end of the gap is written", || is_settled(&stage, "gap")).await;
    let states = states(&stage);
    let running = states.iter().filter(|state| state.ends_with(" running"));
    assert_eq!(running.count(), many.len(), "{states:?}");
    let knows = stage.real.version().starts_with("1.6") || kernel() >= (6, 15);
    let gap = if knows { "gap exited (9)" } else { "gap dead" };
    assert!(states.iter().any(|state| state == gap), "{states:?}");
    ok(&stage, &["kill", "many-0"]);
    until("a later end is written", || is_settled(&stage, "many-0")).await;
    end(server);
    ok(&stage, &["rm", "-f", "--all"]);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_goes_by_its_name_and_by_the_beginning_of_its_id() {
    let Some(set) = Stage::set("a_container_goes_by_its_name").await else {
        return;
    };
    let stage = &set;
    // A name that cannot be an id of containerd.
    let id = ok(stage, &["create", "--name", "web__1", "busybox", "sleep", "600"]);
    let id = id.trim();
    assert!(
        id.len() == 64 && id.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "{id}"
    );
    let twice = &["create", "--name", "web__1", "busybox", "true"];
    refused(stage, twice, 1, "there is a container of this name");
    let listed = ok(stage, &["ps", "-a"]);
    let line = listed.lines().nth(1).expect("a container");
    let shown: Vec<_> = line.split_whitespace().take(2).collect();
    assert_eq!(shown, [&id[..12], "web__1"], "{listed}");
    assert_eq!(ok(stage, &["start", "web__1"]), format!("{id}\n"));
    let inspected: Value = serde_json::from_str(&ok(stage, &["--json", "inspect", &id[..12]])).expect("JSON");
    assert_eq!(
        (&inspected["id"], &inspected["name"]),
        (&id.into(), &"web__1".into())
    );
    ok(stage, &["freeze", &id[..8]]);
    ok(stage, &["thaw", "web__1"]);
    run(stage, "web", "sleep 600");
    run(stage, "web-2", "sleep 600");
    assert_eq!(ok(stage, &["stop", "-t", "0", "web"]), "web\n");
    // Only ids that were made up have beginnings.
    refused(stage, &["stop", "we"], 1, "no such container");
    refused(stage, &["stop", "x__y"], 1, "no such container");
    assert_eq!(ok(stage, &["rm", "-f", "web__1"]), format!("{id}\n"));
    refused(stage, &["inspect", "web__1"], 1, "no such container");
    ok(stage, &["rm", "-f", "web-2", "web"]);
    set.strike().await;
}
