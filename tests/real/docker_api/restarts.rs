//! Containers that are started again when they have ended.

use std::io::Read as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::Docker;
use crate::server::until;
use crate::world::Stage;

fn inspected(docker: &Docker, name: &str) -> Value {
    docker.get(&format!("/containers/{name}/json")).json()
}

fn is(docker: &Docker, name: &str, status: &str, restarts: u64) -> bool {
    let seen = inspected(docker, name);
    seen["State"]["Status"] == status && seen["RestartCount"] == restarts
}

/// How often it has run: each run adds a line to a file.
fn runs(docker: &Docker, name: &str) -> usize {
    let said = docker.get(&format!("/containers/{name}/archive?path=/runs"));
    if said.status != 200 {
        return 0;
    }
    let mut archive = tar::Archive::new(&*said.body);
    let mut text = String::new();
    let mut entries = archive.entries().expect("an archive");
    let entry = entries.next().expect("an entry");
    entry
        .expect("an entry")
        .read_to_string(&mut text)
        .expect("its text");
    text.lines().count()
}

fn fails(policy: &Value) -> Value {
    json!({ "Cmd": ["sh", "-c", "echo run >>/runs; sleep 0.1; exit 3"], "HostConfig": { "RestartPolicy": policy } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_fails_is_started_again_as_often_as_its_policy_says() {
    let Some(stage) = Stage::set("docker_on_failure").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    docker.create(
        "job",
        fails(&json!({ "Name": "on-failure", "MaximumRetryCount": 2 })),
    );
    let said = inspected(&docker, "job");
    assert_eq!(
        said["HostConfig"]["RestartPolicy"],
        json!({ "Name": "on-failure", "MaximumRetryCount": 2 })
    );
    docker.done("POST", "/containers/job/start");
    until("it has failed three times", || is(&docker, "job", "exited", 2)).await;
    assert_eq!(runs(&docker, "job"), 3);
    // A user's start begins anew.
    docker.done("POST", "/containers/job/start");
    until("it has failed six times", || runs(&docker, "job") == 6).await;
    until("it has ended", || is(&docker, "job", "exited", 2)).await;
    // Success is no failure.
    docker.create(
        "done",
        json!({ "Cmd": ["sh", "-c", "echo run >>/runs"], "HostConfig": { "RestartPolicy": { "Name": "on-failure" } } }),
    );
    docker.done("POST", "/containers/done/start");
    until("it has ended", || is(&docker, "done", "exited", 0)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(runs(&docker, "done"), 1);
    for name in ["job", "done"] {
        docker.done("DELETE", &format!("/containers/{name}"));
    }
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_stops_stays_stopped_until_the_next_server_and_then_only_always_runs() {
    let Some(stage) = Stage::set("docker_always").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    for policy in ["always", "unless-stopped"] {
        docker.create(policy, fails(&json!({ "Name": policy })));
        docker.done("POST", &format!("/containers/{policy}/start"));
        until("it was started again", || runs(&docker, policy) > 2).await;
        docker.done("POST", &format!("/containers/{policy}/stop?t=0"));
        let before = runs(&docker, policy);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(runs(&docker, policy), before, "{policy}");
        assert_eq!(inspected(&docker, policy)["State"]["Status"], "exited");
    }
    let before = ["always", "unless-stopped"].map(|name| runs(&docker, name));
    docker.kill();
    let docker = Docker::serve(&stage);
    until("it runs again", || runs(&docker, "always") > before[0]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(runs(&docker, "unless-stopped"), before[1]);
    // A policy is changed like a limit.
    let said = docker.post(
        "/containers/always/update",
        &json!({ "RestartPolicy": { "Name": "no" } }),
    );
    assert_eq!(said.status, 200, "{said:?}");
    until("it has ended", || {
        inspected(&docker, "always")["State"]["Status"] == "exited"
    })
    .await;
    for (policy, says) in [
        (json!({ "Name": "sometimes" }), "unknown policy"),
        (
            json!({ "Name": "always", "MaximumRetryCount": 1 }),
            "can only be used",
        ),
    ] {
        let mut body = fails(&policy);
        body["Image"] = json!("busybox");
        let said = docker.post("/containers/create", &body);
        assert_eq!(said.status, 400, "{said:?}");
        assert!(said.message().contains(says), "{said:?}");
    }
    for name in ["always", "unless-stopped"] {
        docker.done("DELETE", &format!("/containers/{name}?force=1"));
    }
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_no_server_runs_is_started_by_the_next_one() {
    let Some(stage) = Stage::set("docker_restart_later").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    docker.create(
        "web",
        json!({ "Cmd": ["sh", "-c", "echo run >>/runs; until [ -e /shared/go ]; do sleep 0.1; done; rm /shared/go"],
            "HostConfig": { "RestartPolicy": { "Name": "unless-stopped" },
                "Binds": [format!("{}:/shared", stage.real.dir().display())] } }),
    );
    docker.done("POST", "/containers/web/start");
    docker.kill();
    let go = stage.real.dir().join("go");
    std::fs::write(&go, "").expect("a file");
    until("it has ended", || !go.exists()).await;
    let docker = Docker::serve(&stage);
    until("it runs again", || runs(&docker, "web") == 2).await;
    // While it waits for its next start, a removal ends that.
    std::fs::write(&go, "").expect("a file");
    until("it has ended once more", || !go.exists()).await;
    docker.done("DELETE", "/containers/web?force=1");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(docker.get("/containers/web/json").status, 404);
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_waits_for_its_restart_counts_as_running_and_can_be_stopped() {
    let Some(stage) = Stage::set("docker_restarting").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    for (name, verb) in [("one", "stop"), ("two", "kill"), ("three", "start")] {
        docker.create(name, fails(&json!({ "Name": "always" })));
        docker.done("POST", &format!("/containers/{name}/start"));
        // By now, the pause is long enough to meet it.
        until("it was started again a few times", || runs(&docker, name) > 4).await;
        until("it waits", || {
            inspected(&docker, name)["State"]["Status"] == "restarting"
        })
        .await;
        let seen = inspected(&docker, name);
        assert_eq!(
            (&seen["State"]["Running"], &seen["State"]["Restarting"]),
            (&json!(true), &json!(true)),
            "{seen}"
        );
        let listed = docker.get("/containers/json").json();
        assert!(listed.to_string().contains("Restarting (3)"), "{listed}");
        assert_eq!(docker.ask("DELETE", &format!("/containers/{name}")).status, 409);
        let said = docker.ask("POST", &format!("/containers/{name}/{verb}"));
        assert!([204, 304].contains(&said.status), "{verb}: {said:?}");
        if verb != "start" {
            until("it has ended", || {
                inspected(&docker, name)["State"]["Status"] == "exited"
            })
            .await;
            let before = runs(&docker, name);
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(runs(&docker, name), before, "{verb}");
        }
        docker.done("DELETE", &format!("/containers/{name}?force=1"));
    }
    docker.end();
    stage.strike().await;
}
