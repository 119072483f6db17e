//! Containers that find each other by name, on networks that a client has made.

use serde_json::{Value, json};

use super::pages::{create, place, serve};
use super::recovery::fnctr;
use super::rig::Net;
use crate::docker_api::Docker;
use crate::server::until;

/// Runs a command in a container, and returns its output.
fn within(net: &Net, container: &str, script: &str) -> String {
    let done = fnctr(net, &["exec", "-u", "0", container, "sh", "-c", script])
        .output()
        .expect("to run");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The addresses that a name has for a container; none if its resolver knows none.
fn asked(net: &Net, container: &str, name: &str) -> Vec<String> {
    let said = within(net, container, &format!("nslookup {name} 127.0.0.11 2>&1"));
    let mut answers = said.split("\n\n").skip(1).collect::<Vec<_>>().join("\n");
    answers.retain(|c| c != '\t');
    let lines = answers.lines().filter_map(|line| line.strip_prefix("Address"));
    let mut found: Vec<_> = lines
        .filter_map(|line| line.rsplit(' ').next())
        .map(str::to_owned)
        .collect();
    found.sort();
    found
}

fn address(docker: &Docker, name: &str, network: &str) -> String {
    let seen = docker.get(&format!("/containers/{name}/json")).json();
    let address = seen["NetworkSettings"]["Networks"][network]["IPAddress"].as_str();
    address.expect("an address").to_owned()
}

fn run(docker: &Docker, name: &str, network: &str, aliases: &Value) {
    let body = json!({
        "Cmd": ["sleep", "1000"],
        "HostConfig": { "NetworkMode": network },
        "NetworkingConfig": { "EndpointsConfig": { network: { "Aliases": aliases } } },
    });
    docker.create(name, body);
    docker.done("POST", &format!("/containers/{name}/start"));
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_network_find_each_other_by_name_alias_and_address() {
    let Some(mut net) = Net::set("docker_names").await else {
        return;
    };
    let (at, other) = (place(&mut net, "a"), place(&mut net, "b"));
    let docker = serve(&net);
    create(&docker, "front", &at, &json!({ "Internal": true }));
    create(&docker, "back", &other, &json!({ "Internal": true }));
    run(&docker, "web", "front", &json!(["www", "site"]));
    run(&docker, "api", "front", &json!(["site"]));
    run(&docker, "db", "back", &Value::Null);
    let (web, api) = (address(&docker, "web", "front"), address(&docker, "api", "front"));
    assert_eq!(
        within(&net, "api", "grep -v '^search' /etc/resolv.conf"),
        "nameserver 127.0.0.11\noptions ndots:0\n"
    );
    for name in ["web", "WWW", "web.front"] {
        assert_eq!(asked(&net, "api", name), [web.as_str()], "{name}");
    }
    let mut both = [web.clone(), api.clone()];
    both.sort();
    assert_eq!(asked(&net, "web", "site"), both);
    let reverse = within(&net, "api", &format!("nslookup {web} 127.0.0.11"));
    assert!(reverse.contains("web.front"), "{reverse}");
    // Nothing of another network, and nothing of the world outside.
    for name in ["db", "example.org"] {
        assert!(asked(&net, "api", name).is_empty(), "{name}");
    }
    let seen = docker.get("/containers/web/json").json();
    let endpoint = &seen["NetworkSettings"]["Networks"]["front"];
    assert_eq!(endpoint["Aliases"], json!(["www", "site"]));
    let names = endpoint["DNSNames"].as_array().expect("a list");
    assert!(
        names.starts_with(&[json!("web"), json!("www"), json!("site")]),
        "{names:?}"
    );
    // A program of the container may be a name server itself.
    within(&net, "api", "nc -l -p 53 </dev/null >/dev/null 2>&1 &");
    docker.done("POST", "/containers/web/rename?name=shop");
    assert_eq!(asked(&net, "api", "shop"), [web.as_str()]);
    assert!(asked(&net, "api", "web").is_empty());
    // The next server answers in the place of one that was killed.
    docker.kill();
    let docker = serve(&net);
    until("the next server answers", || {
        asked(&net, "api", "shop") == [web.as_str()]
    })
    .await;
    // One that has ended is not there, and one that starts again is, wherever it is then.
    docker.done("POST", "/containers/shop/stop?t=0");
    until("it has no address any more", || {
        asked(&net, "api", "shop").is_empty()
    })
    .await;
    assert_eq!(asked(&net, "api", "site"), [api.as_str()]);
    docker.done("POST", "/containers/shop/start");
    let web = address(&docker, "shop", "front");
    assert_eq!(asked(&net, "api", "shop"), [web]);
    // Started by a command beside the server.
    docker.done("POST", "/containers/shop/stop?t=0");
    let started = fnctr(&net, &["start", "shop"]).output().expect("to run");
    assert!(started.status.success(), "{started:?}");
    until("its own questions are answered", || {
        asked(&net, "shop", "api") == [api.as_str()]
    })
    .await;
    for name in ["shop", "api", "db"] {
        docker.done("DELETE", &format!("/containers/{name}?force=1"));
    }
    for name in ["front", "back"] {
        docker.done("DELETE", &format!("/networks/{name}"));
    }
    docker.end();
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_on_the_default_network_is_refused_as_docker_does() {
    let Some(net) = Net::set("docker_no_names").await else {
        return;
    };
    let docker = serve(&net);
    let said = docker.post(
        "/containers/create",
        &json!({ "Image": "busybox", "NetworkingConfig": { "EndpointsConfig": { "bridge": { "Aliases": ["x"] } } } }),
    );
    assert_eq!(said.status, 400);
    assert!(
        said.message()
            .contains("only for containers in user defined networks"),
        "{said:?}"
    );
    docker.end();
    net.strike().await;
}
