//! Health checks: when a container is healthy, what is told of it, and when.

use std::time::Duration;

use serde_json::{Value, json};

use super::wire::Docker;
use crate::server::until;
use crate::world::Stage;

const SECOND: i64 = 1_000_000_000;

fn health(docker: &Docker, name: &str) -> Value {
    docker.get(&format!("/containers/{name}/json")).json()["State"]["Health"].clone()
}

fn is(docker: &Docker, name: &str, status: &str) -> bool {
    health(docker, name)["Status"] == status
}

fn listed(docker: &Docker, filter: &str) -> Vec<String> {
    let said = docker
        .get(&format!(
            "/containers/json?filters=%7B%22health%22:[%22{filter}%22]%7D"
        ))
        .json();
    let all = said.as_array().expect("a list").iter();
    all.map(|container| container["Status"].as_str().expect("a sentence").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_starting_healthy_unhealthy_and_healthy_again_and_each_change_is_told_once() {
    let Some(stage) = Stage::set("docker_health").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let check = json!({
        "Test": ["CMD-SHELL", "echo looked; test -e /well"], "Interval": SECOND / 5, "Timeout": 20 * SECOND, "Retries": 2,
        "StartPeriod": 600 * SECOND, "StartInterval": SECOND / 5,
    });
    docker.create("box", json!({ "Cmd": ["sleep", "1000"], "Healthcheck": check }));
    assert_eq!(health(&docker, "box"), Value::Null, "it has never run");
    let shown = docker.get("/containers/box/json").json();
    assert_eq!(shown["Config"]["Healthcheck"], check);
    docker.done("POST", "/containers/box/start");
    assert_eq!(health(&docker, "box")["Status"], "starting");
    until("it was looked at in its start period", || {
        health(&docker, "box")["Log"]
            .as_array()
            .is_some_and(|log| log.len() >= 3)
    })
    .await;
    let seen = health(&docker, "box");
    assert_eq!(
        (&seen["Status"], &seen["FailingStreak"]),
        (&json!("starting"), &json!(0)),
        "{seen}"
    );
    assert_eq!(seen["Log"][0]["Output"], "looked\n");
    assert_eq!(seen["Log"][0]["ExitCode"], 1);
    assert_eq!(listed(&docker, "starting").len(), 1);
    let run = |script: &str| super::execs::ran(&docker, "box", &["sh", "-c", script]);
    run("touch /well");
    until("it is healthy", || is(&docker, "box", "healthy")).await;
    let [sentence] = listed(&docker, "healthy").try_into().expect("one container");
    assert!(
        sentence.starts_with("Up ") && sentence.ends_with(" (healthy)"),
        "{sentence}"
    );
    // A frozen one is not asked, and stays what it was.
    docker.done("POST", "/containers/box/pause");
    let before = health(&docker, "box");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = health(&docker, "box");
    assert_eq!(
        (&after["Status"], &after["FailingStreak"]),
        (&before["Status"], &json!(0))
    );
    docker.done("POST", "/containers/box/unpause");
    run("rm /well");
    until("it is unhealthy", || is(&docker, "box", "unhealthy")).await;
    assert!(
        health(&docker, "box")["FailingStreak"]
            .as_u64()
            .expect("a number")
            >= 2
    );
    run("touch /well");
    until("it is healthy again", || is(&docker, "box", "healthy")).await;
    let log = health(&docker, "box")["Log"].as_array().expect("a list").len();
    assert!(log <= 5, "{log}");
    docker.done("POST", "/containers/box/stop?t=0");
    let now = std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs() + 1;
    let events = docker
        .get(&format!(
            "/events?since=0&until={now}&filters=%7B%22event%22:[%22health_status%22]%7D"
        ))
        .text();
    let told: Vec<_> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["Action"].clone())
        .collect();
    assert_eq!(
        told,
        [
            "health_status: healthy",
            "health_status: unhealthy",
            "health_status: healthy"
        ]
    );
    docker.done("DELETE", "/containers/box");
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_hangs_is_ended_and_one_that_cannot_be_executed_fails() {
    let Some(stage) = Stage::set("docker_bad_health").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    for (name, test, says) in [
        (
            "hangs",
            json!(["CMD", "sleep", "1000"]),
            "Health check exceeded timeout (1s)",
        ),
        (
            "odd",
            json!(["CMD", "/no/such/program"]),
            "no such file or directory",
        ),
    ] {
        let check = json!({ "Test": test, "Interval": SECOND / 5, "Timeout": SECOND, "Retries": 1 });
        docker.create(name, json!({ "Cmd": ["sleep", "1000"], "Healthcheck": check }));
        docker.done("POST", &format!("/containers/{name}/start"));
        until("it is unhealthy", || is(&docker, name, "unhealthy")).await;
        let seen = health(&docker, name);
        let output = seen["Log"][0]["Output"].as_str().expect("a text");
        assert!(output.contains(says), "{seen}");
        assert_eq!(seen["Log"][0]["ExitCode"], -1);
    }
    // Nothing of the probes is left in it but the one that runs now.
    let processes = docker.get("/containers/hangs/top").json();
    let count = processes["Processes"].as_array().expect("a list").len();
    assert!(count <= 3, "{processes}");
    for (check, says) in [
        (
            json!({ "Test": ["CMD", "true"], "Timeout": 1 }),
            "Timeout in Healthcheck cannot be less than 1ms",
        ),
        (
            json!({ "Test": ["CMD", "true"], "Retries": -1 }),
            "Retries in Healthcheck cannot be negative",
        ),
        (json!({ "Test": ["FOO"] }), "\"FOO\" is not a kind of test"),
    ] {
        let said = docker.post(
            "/containers/create",
            &json!({ "Image": "busybox", "Healthcheck": check }),
        );
        assert_eq!(said.status, 400, "{said:?}");
        assert!(said.message().contains(says), "{said:?}");
    }
    for name in ["hangs", "odd"] {
        docker.done("DELETE", &format!("/containers/{name}?force=1"));
    }
    docker.end();
    stage.strike().await;
}
