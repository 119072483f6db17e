//! Names that change, and variables that are taken away.

use serde_json::json;

use super::wire::{Docker, output};
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
