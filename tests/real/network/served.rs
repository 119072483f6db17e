//! Prepared network namespaces behind the Docker API.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::recovery::fnctr;
use super::rig::Net;
use crate::beside::Beside;
use crate::docker_api::Docker;
use crate::patience::patient;

/// A server with a pool, once that is filled: its default network has the addresses of the test's.
async fn serve(net: &Net, count: usize, taken: usize) -> Docker {
    let socket = net.dir("docker.sock");
    let (named, size) = (socket.display().to_string(), count.to_string());
    let server = Beside::of(fnctr(
        net,
        &["serve", "--docker-socket", &named, "--network-pool", &size],
    ));
    let docker = Docker::of(server, socket);
    filled(net, count + taken).await;
    docker
}

async fn filled(net: &Net, count: usize) {
    let until = Instant::now() + patient(Duration::from_secs(60));
    while net.addresses_on("fnctr").len() != count {
        assert!(Instant::now() < until, "{:?}", net.addresses_on("fnctr"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn address(docker: &Docker, name: &str) -> String {
    let seen = docker.get(&format!("/containers/{name}/json")).json();
    let address = &seen["NetworkSettings"]["Networks"]["bridge"]["IPAddress"];
    address.as_str().expect("an address").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_on_the_bridge_has_a_prepared_namespace_that_no_other_had() {
    let Some(net) = Net::set("docker_pool").await else {
        return;
    };
    // The bridge of Docker's clients is the network of this name.
    let mut list = net.list("fnctr", &format!("{}.0/24", net.prefix));
    list["plugins"][0]["bridge"] = json!(net.name);
    net.configure("fnctr", &list);
    let docker = serve(&net, 2, 0).await;
    let prepared = net.addresses_on("fnctr");
    let sleeps = json!({ "Cmd": ["sleep", "1000"], "HostConfig": { "NetworkMode": "bridge" } });
    let ports = json!({
        "Cmd": ["sleep", "1000"],
        "HostConfig": { "NetworkMode": "bridge", "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1" }] } },
    });
    docker.create("one", sleeps.clone());
    docker.done("POST", "/containers/one/start");
    let one = address(&docker, "one");
    assert!(prepared.contains(&one), "{one} of {prepared:?}");
    // Those with ports get one of their own.
    filled(&net, 3).await;
    docker.create("ports", ports);
    docker.done("POST", "/containers/ports/start");
    assert!(!prepared.contains(&address(&docker, "ports")));
    // A namespace is used once: the next run of the container has another one.
    docker.done("POST", "/containers/one/restart?t=0");
    let again = address(&docker, "one");
    assert_ne!(again, one);
    filled(&net, 4).await;
    assert!(!net.addresses_on("fnctr").contains(&one));

    // A server that is killed leaves prepared namespaces, and containers with theirs, and the next one looks after both.
    docker.kill();
    let docker = serve(&net, 1, 2).await;
    assert_eq!(address(&docker, "one"), again);
    for name in ["one", "ports"] {
        docker.done("DELETE", &format!("/containers/{name}?force=1"));
    }
    filled(&net, 1).await;
    docker.create("last", sleeps);
    docker.done("POST", "/containers/last/start");
    filled(&net, 2).await;
    // A server that ends by a signal leaves the container its namespace, and takes the others away.
    let last = address(&docker, "last");
    docker.end();
    assert_eq!(net.addresses_on("fnctr"), [last].into());
    let removed = fnctr(&net, &["rm", "-f", "last"]).output().expect("to run fnctr");
    assert!(
        removed.status.success(),
        "{}",
        String::from_utf8_lossy(&removed.stderr)
    );
    assert!(net.addresses_on("fnctr").is_empty());
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_makes_no_sense_is_refused_by_name() {
    let Some(net) = Net::set("docker_pool_refused").await else {
        return;
    };
    for (args, says) in [
        (
            ["--network-pool", "0", "--docker-socket", "/s"].as_slice(),
            "1..=1000",
        ),
        (&["--network-pool", "1001", "--docker-socket", "/s"], "1..=1000"),
        (&["--network-pool", "1"], "--docker-socket"),
    ] {
        let refused = fnctr(&net, &[&["serve"], args].concat())
            .output()
            .expect("to run fnctr");
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains(says), "{text}");
    }
    net.strike().await;
}
