//! Networks that Docker's clients make, use and remove.

use serde_json::{Value, json};

use super::recovery::fnctr;
use super::rig::Net;
use crate::beside::Beside;
use crate::docker_api::Docker;

pub(super) fn serve(net: &Net) -> Docker {
    let socket = net.dir("docker.sock");
    let named = socket.display().to_string();
    let server = Beside::of(fnctr(net, &["--json", "serve", "--docker-socket", &named]));
    server.hear();
    Docker::of(server, socket)
}

/// A name for a bridge, and the beginning of its addresses, for a network that a client is to make.
pub(super) fn place(net: &mut Net, suffix: &str) -> (String, String) {
    let (bridge, prefix) = net.add(suffix);
    let file = net.dir("net.d").join(format!("{bridge}.conflist"));
    std::fs::remove_file(file).expect("to be removed");
    (bridge, prefix)
}

pub(super) fn create(
    docker: &Docker,
    name: &str,
    (bridge, prefix): &(String, String),
    more: &Value,
) -> String {
    let mut body = json!({
        "Name": name, "Labels": { "of": "a test" }, "Options": { "com.docker.network.bridge.name": bridge },
        "IPAM": { "Config": [{ "Subnet": format!("{prefix}.0/24"), "IPRange": format!("{prefix}.64/26") }] },
    });
    let more = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(more);
    let said = docker.post("/networks/create", &body);
    assert_eq!(said.status, 201, "{said:?}");
    said.json()["Id"].as_str().expect("an id").to_owned()
}

fn listed(docker: &Docker, filters: &str) -> Vec<String> {
    let said = docker.get(&format!("/networks?filters={filters}")).json();
    let all = said.as_array().expect("a list").iter();
    all.map(|network| network["Name"].as_str().expect("a name").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_made_used_by_its_id_and_not_removed_under_a_container() {
    let Some(mut net) = Net::set("docker_networks").await else {
        return;
    };
    let at = place(&mut net, "a");
    let docker = serve(&net);
    let id = create(&docker, "front", &at, &json!({}));
    assert_eq!(id.len(), 64);
    let shown = docker.get("/networks/front").json();
    assert_eq!(
        (&shown["Id"], &shown["Labels"], &shown["Internal"]),
        (&json!(id), &json!({ "of": "a test" }), &json!(false))
    );
    assert_eq!(
        shown["IPAM"]["Config"],
        json!([{ "Subnet": format!("{}.0/24", at.1), "IPRange": format!("{}.64/26", at.1), "Gateway": format!("{}.1", at.1) }])
    );
    let own = "%7B%22label%22:[%22of=a%20test%22],%22type%22:[%22custom%22]%7D";
    assert_eq!(listed(&docker, own), ["front"]);
    let built_in = listed(&docker, "%7B%22type%22:[%22builtin%22]%7D");
    assert_eq!(built_in, ["bridge", "host", "none"]);
    let again = docker.post("/networks/create", &json!({ "Name": "front" }));
    assert_eq!(
        (again.status, again.message().as_str()),
        (409, "network with name front already exists")
    );
    // By its id's beginning, as some clients do.
    let body = json!({ "Cmd": ["sleep", "1000"], "HostConfig": { "NetworkMode": &id[..20] } });
    docker.create("web", body);
    docker.done("POST", "/containers/web/start");
    let seen = docker.get("/containers/web/json").json();
    let endpoint = &seen["NetworkSettings"]["Networks"]["front"];
    let ip = endpoint["IPAddress"].as_str().expect("an address");
    let last: u8 = ip
        .rsplit('.')
        .next()
        .expect("a number")
        .parse()
        .expect("a number");
    assert!(ip.starts_with(&at.1) && (64..128).contains(&last), "{seen}");
    assert_eq!(endpoint["NetworkID"], json!(id));
    let shown = docker.get(&format!("/networks/{id}")).json();
    let on_it = shown["Containers"].as_object().expect("an object");
    let web = on_it.values().next().expect("a container");
    assert_eq!(
        (&web["Name"], &web["IPv4Address"]),
        (&json!("web"), &json!(format!("{ip}/24")))
    );
    let refused = docker.ask("DELETE", "/networks/front");
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(
        refused.message().contains("has active endpoints (name:\"web\""),
        "{refused:?}"
    );
    let pruned = docker.post("/networks/prune", &json!({})).json();
    assert_eq!(pruned["NetworksDeleted"], Value::Null);
    docker.done("DELETE", "/containers/web?force=1");
    docker.done("DELETE", "/networks/front");
    assert_eq!(docker.get("/networks/front").status, 404);
    let predefined = docker.ask("DELETE", "/networks/host");
    assert_eq!(
        (predefined.status, predefined.message().as_str()),
        (403, "host is a pre-defined network and cannot be removed")
    );
    docker.end();
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_network_leads_nowhere_else_and_a_prune_takes_what_nobody_uses() {
    let Some(mut net) = Net::set("docker_internal").await else {
        return;
    };
    let (at, other) = (place(&mut net, "a"), place(&mut net, "b"));
    let docker = serve(&net);
    create(&docker, "inside", &at, &json!({ "Internal": true }));
    create(&docker, "unused", &other, &json!({ "Labels": { "keep": "" } }));
    for name in ["one", "two"] {
        let body = json!({ "Cmd": ["sleep", "1000"], "HostConfig": { "NetworkMode": "inside" } });
        docker.create(name, body);
        docker.done("POST", &format!("/containers/{name}/start"));
    }
    let seen = docker.get("/containers/two/json").json();
    let two = seen["NetworkSettings"]["Networks"]["inside"]["IPAddress"]
        .as_str()
        .expect("an address");
    let script = format!("ip route | grep -c default; ping -c 1 -W 5 {two} >/dev/null && echo reached");
    let done = fnctr(&net, &["exec", "-u", "0", "one", "sh", "-c", &script])
        .output()
        .expect("to run");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "0\nreached\n", "{done:?}");
    let refused = docker.post(
        "/containers/create",
        &json!({ "Image": "busybox", "HostConfig": { "NetworkMode": "inside", "PortBindings": { "80/tcp": [{ "HostPort": "0" }] } } }),
    );
    // Docker publishes nothing there, without a word.
    assert!(
        refused.status == 201 || refused.message().contains("cannot publish"),
        "{refused:?}"
    );
    for container in docker
        .get("/containers/json?all=1")
        .json()
        .as_array()
        .expect("a list")
    {
        let id = container["Id"].as_str().expect("an id");
        docker.done("DELETE", &format!("/containers/{id}?force=1"));
    }
    let keeping = "/networks/prune?filters=%7B%22label!%22:[%22keep%22]%7D";
    let pruned = docker.post(keeping, &json!({})).json();
    assert_eq!(pruned["NetworksDeleted"], json!(["inside"]));
    let pruned = docker.post("/networks/prune", &json!({})).json();
    assert_eq!(pruned["NetworksDeleted"], json!(["unused"]));
    docker.end();
    net.strike().await;
}
