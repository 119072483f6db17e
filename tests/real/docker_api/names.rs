//! Names that change, and variables that are taken away.

use serde_json::json;

use super::wire::{Docker, output};
use crate::cli::fnctr;
use crate::world::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_renamed_while_it_runs_and_its_old_name_is_free() {
    let Some(stage) = Stage::set("docker_rename").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let id = docker.create("old", json!({ "Cmd": ["sleep", "1000"] }));
    docker.create("other", json!({ "Cmd": ["true"] }));
    docker.done("POST", "/containers/old/start");
    let mut events = docker.follow("GET", "/events?filters=%7B%22event%22:%5B%22rename%22%5D%7D");
    docker.done("POST", "/containers/old/rename?name=new");
    let event = events.json();
    let attributes = &event["Actor"]["Attributes"];
    assert_eq!(
        (&event["Action"], &attributes["name"], &attributes["oldName"]),
        (&json!("rename"), &json!("new"), &json!("/old")),
        "{event}"
    );
    let inspected = docker.get("/containers/new/json").json();
    assert_eq!(
        (&inspected["Id"], &inspected["Name"]),
        (&json!(id), &json!("/new"))
    );
    assert_eq!(docker.get("/containers/old/json").status, 404);
    docker.create("old", json!({ "Cmd": ["true"] }));
    for (name, status, says) in [
        (
            "other",
            409,
            "Error when allocating new name: Conflict. The container name \"/other\"",
        ),
        ("new", 400, "same name as its current name"),
        ("", 400, "Neither old nor new names may be empty"),
        (
            "a%20b",
            400,
            "Error when allocating new name: Invalid container name (/a b)",
        ),
    ] {
        let said = docker.ask("POST", &format!("/containers/new/rename?name={name}"));
        assert_eq!(said.status, status, "{name}: {said:?}");
        assert!(said.message().contains(says), "{name}: {}", said.message());
    }
    for name in ["new", "old", "other"] {
        docker.done("DELETE", &format!("/containers/{name}?force=1"));
    }
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_named_without_a_value_is_taken_away() {
    let Some(stage) = Stage::set("docker_variables").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let body =
        json!({ "Cmd": ["/bin/env"], "Env": ["A=1", "PATH", "B=1", "B", "C", "C=2", "D"], "Hostname": "h" });
    let id = docker.create("env", body);
    let attached = docker.attach(&id, "stdout=1");
    docker.done("POST", "/containers/env/start");
    let (out, _) = output(attached);
    // The runtime sets HOME.
    let mut lines: Vec<_> = out.lines().filter(|line| !line.starts_with("HOME=")).collect();
    lines.sort_unstable();
    // What the body sets stays, whatever it takes away.
    assert_eq!(lines, ["A=1", "B=1", "C=2", "HOSTNAME=h"]);
    docker.done("DELETE", "/containers/env?force=1");
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_one_containers_until_that_is_gone_whoever_serves_or_makes_it() {
    let Some(stage) = Stage::set("docker_one_name").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let refused = |docker: &Docker, name: &str| {
        let body = json!({ "Image": "busybox", "HostConfig": { "NetworkMode": "none" }, "Cmd": ["true"] });
        let said = docker.post(&format!("/containers/create?name={name}"), &body);
        assert_eq!(said.status, 409, "{said:?}");
        let taken = format!("The container name \"/{name}\" is already in use");
        assert!(said.message().contains(&taken), "{}", said.message());
    };
    let body = || json!({ "Cmd": ["true"] });
    docker.create("one", body());
    refused(&docker, "one");
    for _ in 0..3 {
        docker.done("DELETE", "/containers/one");
        docker.create("one", body());
    }
    // A name that people choose is an id, if the command makes the container.
    let made = fnctr(&stage, &["create", "--name", "two", "busybox", "true"]).output();
    let made = made.expect("to run fnctr");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    refused(&docker, "two");
    docker.kill();
    let docker = Docker::serve(&stage);
    for name in ["one", "two"] {
        refused(&docker, name);
        docker.done("DELETE", &format!("/containers/{name}"));
        docker.create(name, body());
        docker.done("DELETE", &format!("/containers/{name}"));
    }
    docker.end();
    stage.strike().await;
}
