//! Servers and clients that end in the middle.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::wire::{Docker, output, say, with_body};
use crate::beside::Beside;
use crate::habits::ok;
use crate::patience::patient;
use crate::registry::{self, Image, Packed, Registry};
use crate::world::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_leaves_everything_to_the_next_one() {
    let Some(stage) = Stage::set("docker_killed_server").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let waits = "read x; echo got $x; exit 5";
    let id = docker.create(
        "fed",
        json!({ "Cmd": ["sh", "-c", waits], "OpenStdin": true, "StdinOnce": true }),
    );
    docker.create(
        "once",
        json!({ "Cmd": ["sh", "-c", "read x"], "OpenStdin": true, "HostConfig": { "AutoRemove": true } }),
    );
    docker.create("idle", json!({ "Cmd": ["true"], "Labels": { "a": "b" } }));
    docker.done("POST", "/containers/fed/start");
    docker.done("POST", "/containers/once/start");
    let attached = docker.attach(&id, "stdout=1");
    docker.kill();
    assert_eq!(output(attached), (String::new(), String::new()));
    let docker = Docker::serve(&stage);
    let states = |docker: &Docker| {
        let listed = docker.get("/containers/json?all=1").json();
        let listed = listed.as_array().expect("a list").iter();
        let mut states: Vec<_> = listed
            .map(|one| {
                format!(
                    "{} {}",
                    one["Names"][0].as_str().unwrap(),
                    one["State"].as_str().unwrap()
                )
            })
            .collect();
        states.sort();
        states
    };
    assert_eq!(
        states(&docker),
        ["/fed running", "/idle created", "/once running"]
    );
    assert_eq!(
        docker.get("/containers/idle/json").json()["Config"]["Labels"],
        json!({ "a": "b" })
    );
    let mut attached = docker.attach(&id, "stdin=1&stdout=1");
    say(&mut attached, "it\n");
    assert_eq!(output(attached).0, "got it\n");
    assert_eq!(
        docker.ask("POST", "/containers/fed/wait").json(),
        json!({ "StatusCode": 5 })
    );
    let mut removed = docker.follow("POST", "/containers/once/wait?condition=removed");
    docker.done("POST", "/containers/once/kill");
    assert_eq!(removed.json(), json!({ "StatusCode": 137 }));
    docker.done("DELETE", "/containers/fed");
    docker.done("DELETE", "/containers/idle");
    assert_eq!(states(&docker), [""; 0]);
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish_end_their_request_and_nothing_else() {
    let Some(stage) = Stage::set("docker_vanished_clients").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let id = docker.create("web", json!({ "Cmd": ["sleep", "600"] }));
    docker.done("POST", "/containers/web/start");
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", docker.server.child.id()))
            .expect("descriptors")
            .count()
    };
    let before = descriptors();
    for _ in 0..100 {
        drop(docker.attach(&id, "stdin=1&stdout=1&stderr=1"));
        drop(docker.follow("POST", "/containers/web/wait"));
        drop(docker.follow("GET", "/events"));
        drop(docker.follow("GET", "/containers/web/stats"));
    }
    let until = Instant::now() + patient(Duration::from_secs(30));
    while descriptors() > before {
        assert!(
            Instant::now() < until,
            "{} descriptors, {before} before",
            descriptors()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        docker.get("/containers/web/json").json()["State"]["Running"],
        json!(true)
    );
    docker.done("DELETE", "/containers/web?force=1");
    docker.end();
    stage.strike().await;
}

/// What other processes do is seen.
#[tokio::test(flavor = "multi_thread")]
async fn containers_of_the_command_are_seen_frozen_and_removed_here() {
    let Some(stage) = Stage::set("docker_beside_the_command").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    ok(
        &stage,
        &["run", "-d", "--name", "theirs", "busybox", "sleep", "600"],
    );
    let until = Instant::now() + patient(Duration::from_secs(10));
    let state =
        |name: &str| docker.get(&format!("/containers/{name}/json")).json()["State"]["Status"].clone();
    while state("theirs") != json!("running") {
        assert!(Instant::now() < until, "{}", state("theirs"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    docker.done("POST", "/containers/theirs/pause");
    let frozen: Value = serde_json::from_str(&ok(&stage, &["--json", "inspect", "theirs"])).expect("JSON");
    assert_eq!(frozen["state"], "frozen", "{frozen}");
    docker.done("DELETE", "/containers/theirs?force=1");
    assert!(ok(&stage, &["ps", "-aq"]).is_empty());
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_and_a_foreign_file_are_refused_by_name() {
    let Some(stage) = Stage::set("docker_socket").await else {
        return;
    };
    let path = stage.real.dir().join("mine");
    std::fs::write(&path, "mine").expect("a file");
    let named = path.display().to_string();
    for (args, says) in [
        (
            vec!["serve", "--docker-socket", &named],
            "exists and is not a socket",
        ),
        (
            vec![
                "serve",
                "--docker-socket",
                "/tmp/x.sock",
                "--docker-group",
                "no-such-group",
            ],
            "no-such-group",
        ),
    ] {
        let server = Beside::start(&stage, &args);
        let (code, _, err) = server.end();
        assert_ne!(code, Some(0));
        assert!(err.contains(says), "{err}");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "mine");
    std::fs::remove_file(&path).expect("to remove it");
    stage.strike().await;
}

/// Fifty containers that wait for a line, with a client attached to each.
#[tokio::test(flavor = "multi_thread")]
async fn a_containerd_that_is_killed_under_fifty_attached_containers_costs_no_byte_and_no_code() {
    const ALL: usize = 50;
    let Some(mut stage) = Stage::set("docker_killed_containerd").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let waits = "read x; echo got $x; exit 6";
    let body = json!({ "Cmd": ["sh", "-c", waits], "OpenStdin": true, "StdinOnce": true });
    let mut clients = Vec::new();
    for number in 0..ALL {
        let name = format!("c{number}");
        let id = docker.create(&name, body.clone());
        let attached = docker.attach(&id, "stdin=1&stdout=1");
        docker.done("POST", &format!("/containers/{id}/start"));
        let waits = docker.follow("POST", &format!("/containers/{id}/wait"));
        clients.push((id, attached, waits));
    }
    stage.real.crash();
    stage.real.restart();
    for (number, (id, mut attached, mut waits)) in clients.into_iter().enumerate() {
        say(&mut attached, &format!("{number}\n"));
        assert_eq!(output(attached).0, format!("got {number}\n"));
        assert_eq!(waits.json(), json!({ "StatusCode": 6 }), "{number}");
        docker.done("DELETE", &format!("/containers/{id}?force=1"));
    }
    docker.end();
    stage.strike().await;
}

/// Whatever a client was doing, the next server has all of the container or none of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_the_middle_of_a_request_leaves_nothing_half_made() {
    let Some(stage) = Stage::set("docker_killed_in_a_request").await else {
        return;
    };
    for round in 0..5_u64 {
        let docker = Docker::serve(&stage);
        let socket = docker.socket().to_owned();
        let client = std::thread::spawn(move || {
            let body = json!({ "Image": "busybox", "Cmd": ["sleep", "600"], "HostConfig": { "NetworkMode": "none" } });
            for number in 0.. {
                let name = format!("k{round}-{number}");
                let pages = [
                    with_body(&format!("/containers/create?name={name}"), &body.to_string()),
                    with_body(&format!("/containers/{name}/start"), ""),
                ];
                for page in pages {
                    let Ok(mut stream) = UnixStream::connect(&socket) else {
                        return;
                    };
                    let said = stream
                        .write_all(&page)
                        .and_then(|()| stream.read_to_end(&mut Vec::new()));
                    if said.is_err() {
                        return;
                    }
                }
            }
        });
        // The creates and starts of some hundred milliseconds are cut off at another place each time.
        tokio::time::sleep(Duration::from_millis(30 + 61 * round)).await;
        docker.kill();
        client.join().expect("a client");
        let docker = Docker::serve(&stage);
        for one in docker
            .get("/containers/json?all=1")
            .json()
            .as_array()
            .expect("a list")
        {
            let (id, state) = (
                one["Id"].as_str().expect("an id"),
                one["State"].as_str().expect("a state"),
            );
            assert!(["created", "running", "exited"].contains(&state), "{one}");
            docker.done("DELETE", &format!("/containers/{id}?force=1"));
        }
        docker.end();
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_whose_server_is_killed_is_finished_by_the_next_one_and_leaves_nothing() {
    const TEST: &str = "docker_killed_in_a_pull";
    if !registry::available(TEST) {
        return;
    }
    let Some(stage) = Stage::set(TEST).await else {
        return;
    };
    let registry = Registry::start();
    registry.push(
        "large",
        "1",
        &Image::busybox(Packed::OciGzip, "large", &[6 << 20, 6 << 20]),
    );
    let name = format!("{}/large:1", registry.address());
    let page = format!("/images/create?fromImage={}/large&tag=1", registry.address());
    for round in 0..4_u64 {
        let docker = Docker::serve(&stage);
        let mut pull = docker.follow("POST", &page);
        let first = pull.json();
        assert!(first["status"].is_string(), "{first}");
        // At the beginning, in the transfer, while layers are unpacked.
        tokio::time::sleep(Duration::from_millis(70 * round)).await;
        docker.kill();
    }
    let docker = Docker::serve(&stage);
    let said = docker.ask("POST", &page);
    assert_eq!(said.status, 200, "{said:?}");
    let text = said.text();
    assert!(text.contains("Status: ") && !text.contains("\"error\""), "{text}");
    let id = docker.create("of-it", json!({ "Image": name, "Cmd": ["true"] }));
    docker.done("POST", "/containers/of-it/start");
    assert_eq!(
        docker.ask("POST", "/containers/of-it/wait").json()["StatusCode"],
        0,
        "{id}"
    );
    docker.done("DELETE", "/containers/of-it");
    docker.done("DELETE", &format!("/images/{name}"));
    docker.end();
    stage.strike().await;
}
