//! Whole lives of containers, as a functions host and the docker command live them.

use std::io::Read as _;
use std::net::Shutdown;

use serde_json::json;

use super::wire::{Docker, output, say};
use crate::world::Stage;

/// The sequence of Fn's driver.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_attached_before_its_start_fed_frozen_measured_and_removed() {
    let Some(stage) = Stage::set("docker_function").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let body = json!({
        "Hostname": "vm", "User": "1000:1000", "Cmd": ["sh", "-c", "cat; echo bad >&2; exit 3"], "Entrypoint": null,
        "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "OpenStdin": true, "StdinOnce": true,
        "Labels": { "fn-agent-classifier": "tag" },
        "HostConfig": {
            "CapDrop": ["all"], "RestartPolicy": {}, "LogConfig": { "Type": "none" }, "SecurityOpt": ["no-new-privileges"],
            "Memory": 64 << 20, "MemorySwap": 64 << 20, "MemorySwappiness": 0, "PidsLimit": 32,
        },
        "NetworkingConfig": { "EndpointsConfig": null },
    });
    let id = docker.create("fn-1", body.clone());
    assert_eq!(id.len(), 64);
    let inspected = docker.get("/containers/fn-1/json").json();
    assert_eq!(inspected["State"]["Status"], "created");
    assert_eq!(inspected["HostConfig"]["NetworkMode"], "none");
    let mut stats = docker.follow("GET", "/containers/fn-1/stats?stream=true");
    assert_eq!(stats.json()["read"], "0001-01-01T00:00:00Z");
    let mut attached = docker.attach(&id, "stdin=1&stdout=1&stderr=1");
    say(&mut attached, "hello");
    let mut waits = docker.follow("POST", "/containers/fn-1/wait?condition=next-exit");
    assert!(waits.head.starts_with("HTTP/1.1 200 OK"), "{}", waits.head);
    docker.done("POST", &format!("/containers/{}/start", &id[..12]));
    assert_eq!(output(attached), ("hello".to_owned(), "bad\n".to_owned()));
    assert_eq!(waits.json(), json!({ "StatusCode": 3 }));
    let inspected = docker.get("/containers/fn-1/json").json();
    let state = &inspected["State"];
    assert_eq!(
        (&state["Status"], &state["ExitCode"]),
        (&json!("exited"), &json!(3)),
        "{state}"
    );
    assert_ne!(state["FinishedAt"], "0001-01-01T00:00:00Z", "{state}");
    docker.done("DELETE", "/containers/fn-1?force=1&v=1");
    // The name is free at once, and the streams of the container have ended.
    while stats.next().is_some() {}
    assert_ne!(docker.create("fn-1", body), id);
    docker.done("DELETE", "/containers/fn-1?force=1&v=1");
    assert_eq!(docker.ask("DELETE", "/containers/fn-1").status, 404);
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_change_as_docker_s_do_and_what_does_not_fit_is_refused() {
    let Some(stage) = Stage::set("docker_states").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let id = docker.create("web", json!({ "Cmd": ["sleep", "600"], "Labels": { "a": "b" } }));
    let refused = |method: &str, path: &str, status, says: &str| {
        let said = docker.ask(method, path);
        assert_eq!(said.status, status, "{path}: {said:?}");
        assert!(said.message().contains(says), "{path}: {}", said.message());
    };
    refused(
        "POST",
        "/containers/web/pause",
        409,
        &format!("container {id} is not running"),
    );
    refused(
        "POST",
        "/containers/web/kill",
        409,
        &format!("cannot kill container: web: container {id} is not running"),
    );
    assert_eq!(docker.ask("POST", "/containers/web/stop").status, 304);
    assert_eq!(
        docker.ask("POST", "/containers/web/wait").json(),
        json!({ "StatusCode": 0 })
    );
    docker.done("POST", "/containers/web/start");
    assert_eq!(docker.ask("POST", "/containers/web/start").status, 304);
    refused(
        "DELETE",
        "/containers/web",
        409,
        "cannot remove container \"web\": container is running",
    );
    refused(
        "POST",
        "/containers/web/unpause",
        500,
        &format!("Container {id} is not paused"),
    );
    refused(
        "POST",
        "/containers/web/kill?signal=NOSUCH",
        400,
        "invalid signal: NOSUCH",
    );
    docker.done("POST", "/containers/web/pause");
    refused(
        "POST",
        "/containers/web/pause",
        409,
        &format!("Container {id} is already paused"),
    );
    refused(
        "POST",
        "/containers/web/start",
        409,
        "cannot start a paused container, try unpause instead",
    );
    let listed = docker
        .get("/containers/json?filters=%7B%22label%22:%5B%22a=b%22%5D%7D")
        .json();
    assert_eq!(
        (&listed[0]["State"], &listed[0]["Names"]),
        (&json!("paused"), &json!(["/web"])),
        "{listed}"
    );
    assert!(
        listed[0]["Status"].as_str().unwrap().ends_with("(Paused)"),
        "{listed}"
    );
    docker.done("POST", "/containers/web/unpause");
    let top = docker.get("/containers/web/top").json();
    assert_eq!(top["Processes"].as_array().unwrap().len(), 1, "{top}");
    let sample = docker.get("/containers/web/stats?stream=0&one-shot=1").json();
    assert_eq!(sample["pids_stats"]["current"], 1, "{sample}");
    assert!(
        !sample["cpu_stats"]["cpu_usage"]["percpu_usage"]
            .as_array()
            .unwrap()
            .is_empty(),
        "{sample}"
    );
    let said = docker.post("/containers/create?name=web", &json!({ "Image": "busybox" }));
    assert_eq!(said.status, 409, "{said:?}");
    assert!(
        said.message()
            .contains(&format!("is already in use by container \"{id}\"")),
        "{said:?}"
    );
    let mut removed = docker.follow("POST", "/containers/web/wait?condition=removed");
    docker.done("POST", "/containers/web/kill");
    assert_eq!(
        docker.ask("POST", "/containers/web/wait").json(),
        json!({ "StatusCode": 137 })
    );
    docker.done("POST", "/containers/web/restart?t=0");
    docker.done("DELETE", "/containers/web?force=1");
    assert_eq!(removed.json(), json!({ "StatusCode": 137 }));
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_removed_at_its_end_tells_its_code_to_those_who_wait() {
    let Some(stage) = Stage::set("docker_auto_remove").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let body = |command: &str| json!({ "Cmd": ["sh", "-c", command], "HostConfig": { "AutoRemove": true } });
    let id = docker.create("once", body("echo hi; exit 7"));
    let attached = docker.attach(&id, "stdout=1&stderr=1");
    attached.shutdown(Shutdown::Write).expect("to close one side");
    let mut waits = docker.follow("POST", "/containers/once/wait?condition=removed");
    docker.done("POST", "/containers/once/start");
    assert_eq!(output(attached).0, "hi\n");
    assert_eq!(waits.json(), json!({ "StatusCode": 7 }));
    assert_eq!(docker.get("/containers/once/json").status, 404);
    // A start that fails ends it too, with the code that a shell would give.
    let id = docker.create(
        "bad",
        json!({ "Cmd": ["/nosuch"], "HostConfig": { "AutoRemove": true } }),
    );
    let mut attached = docker.attach(&id, "stdout=1");
    let said = docker.ask("POST", "/containers/bad/start");
    assert_eq!(
        (said.status, said.message().contains("no such file or directory")),
        (400, true),
        "{said:?}"
    );
    let mut rest = Vec::new();
    attached.read_to_end(&mut rest).expect("its end");
    assert!(rest.is_empty());
    assert_eq!(docker.get("/containers/json?all=1").json(), json!([]));
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_that_closes_its_side_at_once_gets_all_output() {
    let Some(stage) = Stage::set("docker_half_close").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let id = docker.create(
        "many",
        json!({ "Cmd": ["sh", "-c", "read x; echo got it"], "OpenStdin": true }),
    );
    let readers: Vec<_> = (0..200)
        .map(|_| {
            let attached = docker.attach(&id, "stdout=1");
            attached.shutdown(Shutdown::Write).expect("to close one side");
            attached
        })
        .collect();
    docker.done("POST", "/containers/many/start");
    let mut writer = docker.attach(&id, "stdin=1");
    say(&mut writer, "go\n");
    for reader in readers {
        assert_eq!(output(reader).0, "got it\n");
    }
    docker.done("DELETE", "/containers/many?force=1");
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_from_a_time_on_and_as_they_happen() {
    let Some(stage) = Stage::set("docker_events").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let id = docker.create("one", json!({ "Cmd": ["true"], "Labels": { "a": "b" } }));
    let mut live = docker.follow(
        "GET",
        "/events?filters=%7B%22type%22:%7B%22container%22:true%7D%7D",
    );
    docker.done("POST", "/containers/one/start");
    docker.ask("POST", "/containers/one/wait");
    docker.done("DELETE", "/containers/one");
    for action in ["start", "die", "destroy"] {
        let event = live.json();
        assert_eq!(
            (&event["Action"], &event["status"]),
            (&json!(action), &json!(action)),
            "{event}"
        );
        assert_eq!(event["Actor"]["ID"], json!(id));
        let attributes = &event["Actor"]["Attributes"];
        assert_eq!(
            (&attributes["name"], &attributes["image"]),
            (&json!("one"), &json!("busybox")),
            "{event}"
        );
        assert!(
            event["time"].as_u64().unwrap() > 0 && event["timeNano"].as_u64().unwrap() > 0,
            "{event}"
        );
        if action == "die" {
            assert_eq!(
                (&attributes["exitCode"], &attributes["a"]),
                (&json!("0"), &json!("b")),
                "{event}"
            );
        }
    }
    // A past time ends the answer.
    let all = docker.get("/events?since=0&until=1").text();
    assert!(all.is_empty(), "{all}");
    let until = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time")
        .as_secs()
        + 1;
    let past = docker.get(&format!("/events?since=0&until={until}")).text();
    let actions: Vec<String> = past
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["Action"]
                .as_str()
                .expect("a word")
                .to_owned()
        })
        .collect();
    assert!(
        actions.ends_with(&["create", "start", "die", "destroy"].map(str::to_owned)),
        "{actions:?}"
    );
    docker.end();
    stage.strike().await;
}
