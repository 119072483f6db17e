//! Those who attach, wait and read: none waits for ever, and none loses anything.

use std::io::Read as _;
use std::time::Duration;

use serde_json::json;

use super::wire::{Docker, output};
use crate::habits::ok;
use crate::world::Stage;

/// A reader through `fnctr attach` is cut off sooner than that.
const STALLED: Duration = Duration::from_secs(7);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_for_long_gets_all_of_it_later() {
    let Some(stage) = Stage::set("docker_patience").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let script = "head -c 8000000 /dev/zero | tr '\\0' x; echo end >&2";
    let id = docker.create("pages", json!({ "Cmd": ["sh", "-c", script] }));
    let attached = docker.attach(&id, "stdout=1&stderr=1");
    docker.done("POST", "/containers/pages/start");
    tokio::time::sleep(STALLED).await;
    assert_eq!(
        docker.get("/containers/pages/json").json()["State"]["Status"],
        "running"
    );
    let (out, err) = output(attached);
    assert_eq!((out.len(), err.as_str()), (8_000_000, "end\n"));
    docker.done("DELETE", "/containers/pages?force=1");

    // One that has ended by then, with output in its pipes that the reader has no room for.
    let script = "head -c 1150000 /dev/zero | tr '\\0' x; echo end >&2";
    let id = docker.create(
        "short",
        json!({ "Cmd": ["sh", "-c", script], "HostConfig": { "AutoRemove": true } }),
    );
    let attached = docker.attach(&id, "stdout=1&stderr=1");
    docker.done("POST", "/containers/short/start");
    tokio::time::sleep(STALLED).await;
    let (out, err) = output(attached);
    assert_eq!((out.len(), err.as_str()), (1_150_000, "end\n"));
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_have_attached_get_the_end_if_there_is_no_run() {
    let Some(stage) = Stage::set("docker_no_run").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let ends = |mut attached: std::os::unix::net::UnixStream, why: &str| {
        let limit = crate::patience::patient(Duration::from_secs(30));
        attached.set_read_timeout(Some(limit)).expect("a limit");
        let read = attached
            .read(&mut [0])
            .unwrap_or_else(|error| panic!("{why}: {error}"));
        assert_eq!(read, 0, "{why}");
    };
    let id = docker.create("removed", json!({ "Cmd": ["true"] }));
    let attached = docker.attach(&id, "stdout=1");
    docker.done("DELETE", "/containers/removed");
    ends(attached, "removed");

    let id = docker.create("refused", json!({ "Cmd": ["/no/such/program"] }));
    let attached = docker.attach(&id, "stdout=1");
    let said = docker.ask("POST", "/containers/refused/start");
    assert_eq!(said.status, 400, "{said:?}");
    ends(attached, "refused");
    let said = docker.ask("POST", "/containers/refused/wait").json();
    assert_eq!(said["StatusCode"], 127, "{said}");
    assert!(said["Error"]["Message"].is_string(), "{said}");
    docker.done("DELETE", "/containers/refused");

    let log = json!({ "Type": "syslog", "Config": { "syslog-address": "tcp://127.0.0.1:1" } });
    let id = docker.create(
        "unlogged",
        json!({ "Cmd": ["true"], "HostConfig": { "LogConfig": log } }),
    );
    let attached = docker.attach(&id, "stdout=1");
    let said = docker.ask("POST", "/containers/unlogged/start");
    let words = "failed to initialize logging driver";
    assert!(said.status == 500 && said.message().contains(words), "{said:?}");
    ends(attached, "unlogged");
    let said = docker.ask("POST", "/containers/unlogged/wait").json();
    let why = said["Error"]["Message"].as_str().unwrap_or_default();
    assert!(said["StatusCode"] == 128 && why.contains(words), "{said}");
    let state = &docker.get("/containers/unlogged/json").json()["State"];
    assert!(
        state["Error"].as_str().unwrap_or_default().contains(words),
        "{state}"
    );
    docker.done("DELETE", "/containers/unlogged");
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_the_next_exit_is_not_told_of_the_one_before() {
    let Some(stage) = Stage::set("docker_next_exit").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let script = "[ -e /again ] && exit 4; touch /again; exit 3";
    docker.create("twice", json!({ "Cmd": ["sh", "-c", script] }));
    docker.done("POST", "/containers/twice/start");
    let said = docker.ask("POST", "/containers/twice/wait").json();
    assert_eq!(said, json!({ "StatusCode": 3 }));
    // Its end may not be on the record yet.
    let mut next = docker.follow("POST", "/containers/twice/wait?condition=next-exit");
    let mut removed = docker.follow("POST", "/containers/twice/wait?condition=removed");
    docker.done("POST", "/containers/twice/start");
    assert_eq!(next.json(), json!({ "StatusCode": 4 }));
    docker.done("DELETE", "/containers/twice?force=1");
    assert_eq!(removed.json(), json!({ "StatusCode": 4 }));

    // Another process removes it while it runs.
    docker.create("theirs", json!({ "Cmd": ["sleep", "600"] }));
    docker.done("POST", "/containers/theirs/start");
    let mut removed = docker.follow("POST", "/containers/theirs/wait?condition=removed");
    let mut next = docker.follow("POST", "/containers/theirs/wait?condition=next-exit");
    ok(&stage, &["rm", "--force", "theirs"]);
    assert_eq!(removed.json(), json!({ "StatusCode": 137 }));
    assert_eq!(next.json(), json!({ "StatusCode": 137 }));
    docker.end();
    stage.strike().await;
}

/// The kernel grants 128 inotify instances to a user, and a connection needs none of its own.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_wait_and_two_hundred_follow_the_events_at_once() {
    const EACH: usize = 200;
    let Some(stage) = Stage::set("docker_many_wait").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    docker.create("one", json!({ "Cmd": ["sh", "-c", "exit 5"] }));
    let wait = || docker.follow("POST", "/containers/one/wait?condition=next-exit");
    let mut waits: Vec<_> = (0..EACH).map(|_| wait()).collect();
    let filter = "%7B%22event%22:%5B%22die%22%5D%7D";
    let follow = || docker.follow("GET", &format!("/events?filters={filter}"));
    let mut events: Vec<_> = (0..EACH).map(|_| follow()).collect();
    docker.done("POST", "/containers/one/start");
    for wait in &mut waits {
        assert_eq!(wait.json(), json!({ "StatusCode": 5 }));
    }
    for events in &mut events {
        assert_eq!(events.json()["Action"], "die");
    }
    drop((waits, events));
    docker.done("DELETE", "/containers/one?force=1");
    docker.end();
    stage.strike().await;
}
