//! Prepared network namespaces behind the Docker API.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::recovery::fnctr;
use super::rig::Net;
use crate::beside::Beside;
use crate::docker_api::Docker;
use crate::patience::patient;

/// The bridge of Docker's clients is the network of this name; it has the addresses of the test's.
const BRIDGE: &str = "fnctr";

fn configure(net: &Net) {
    let mut list = net.list(BRIDGE, &format!("{}.0/24", net.prefix));
    list["plugins"][0]["bridge"] = json!(net.name);
    net.configure(BRIDGE, &list);
}

/// A server with a pool.
struct Served {
    docker: Docker,
    /// Where its numbers are.
    metrics: String,
}

impl Served {
    fn start(net: &Net, pool: &[&str]) -> Self {
        let socket = net.dir("docker.sock");
        let named = socket.display().to_string();
        let args = [
            "--json",
            "serve",
            "--metrics-addr",
            "127.0.0.1:0",
            "--docker-socket",
            &named,
        ];
        let server = Beside::of(fnctr(net, &[&args, pool].concat()));
        let said: Value = serde_json::from_str(&server.hear()).expect("JSON");
        let metrics = said["metrics"].as_str().expect("a page");
        let metrics = metrics
            .strip_prefix("http://")
            .and_then(|at| at.strip_suffix("/metrics"));
        Self {
            metrics: metrics.expect("an address").to_owned(),
            docker: Docker::of(server, socket),
        }
    }

    /// How many namespaces are ready.
    fn ready(&self) -> usize {
        let mut client = TcpStream::connect(&self.metrics).expect("to connect");
        client
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("to ask");
        let mut page = String::new();
        client.read_to_string(&mut page).expect("a page");
        let mut lines = page.lines();
        let ready = lines.find_map(|line| line.strip_prefix("fnctr_network_pool_slots{state=\"ready\"} "));
        ready.expect("the number").parse().expect("a number")
    }

    /// Waits until so many namespaces are ready, and the addresses that are taken are as wanted.
    async fn until(&self, net: &Net, ready: usize, taken: impl Fn(&BTreeSet<String>) -> bool) {
        let until = Instant::now() + patient(Duration::from_secs(60));
        loop {
            let (now, addresses) = (self.ready(), net.addresses_on(BRIDGE));
            if now == ready && taken(&addresses) {
                return;
            }
            assert!(Instant::now() < until, "{now} ready; {addresses:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
    configure(&net);
    let served = Served::start(&net, &["--network-pool", "2"]);
    served.until(&net, 2, |taken| taken.len() == 2).await;
    let (docker, prepared) = (&served.docker, net.addresses_on(BRIDGE));
    let sleeps = json!({ "Cmd": ["sleep", "1000"], "HostConfig": { "NetworkMode": "bridge" } });
    let ports = json!({
        "Cmd": ["sleep", "1000"],
        "ExposedPorts": { "80/tcp": {}, "81/udp": {} },
        "HostConfig": {
            "NetworkMode": "bridge",
            "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1" }] },
            "PublishAllPorts": true,
        },
    });
    docker.create("one", sleeps.clone());
    docker.done("POST", "/containers/one/start");
    let one = address(docker, "one");
    assert!(prepared.contains(&one), "{one} of {prepared:?}");
    served.until(&net, 2, |taken| taken.len() == 3).await;
    let prepared = net.addresses_on(BRIDGE);
    docker.create("ports", ports);
    docker.done("POST", "/containers/ports/start");
    let of_its_own = address(docker, "ports");
    assert!(!prepared.contains(&of_its_own), "{of_its_own} of {prepared:?}");
    let seen = docker.get("/containers/ports/json").json();
    let published = &seen["NetworkSettings"]["Ports"];
    for (port, ip) in [("80/tcp", "127.0.0.1"), ("81/udp", "0.0.0.0")] {
        let binding = &published[port][0];
        let number: u16 = binding["HostPort"]
            .as_str()
            .expect("a port")
            .parse()
            .expect("a number");
        assert!(binding["HostIp"] == ip && number > 0, "{published}");
        assert_eq!(published[port].as_array().map(Vec::len), Some(1), "{published}");
    }
    // A namespace is used once: the next run of the container has another one.
    docker.done("POST", "/containers/one/restart?t=0");
    let again = address(docker, "one");
    assert!(
        again != one && prepared.contains(&again),
        "{again} of {prepared:?}"
    );
    served
        .until(&net, 2, |taken| taken.len() == 4 && !taken.contains(&one))
        .await;

    // A server that is killed leaves prepared namespaces, and containers with theirs, and the next one looks after both.
    served.docker.kill();
    let served = Served::start(&net, &["--network-pool", "1"]);
    let docker = &served.docker;
    served.until(&net, 1, |taken| taken.len() == 3).await;
    assert_eq!(address(docker, "one"), again);
    for name in ["one", "ports"] {
        docker.done("DELETE", &format!("/containers/{name}?force=1"));
    }
    served.until(&net, 1, |taken| taken.len() == 1).await;
    docker.create("last", sleeps);
    docker.done("POST", "/containers/last/start");
    served.until(&net, 1, |taken| taken.len() == 2).await;
    // A server that ends by a signal leaves the container its namespace, and takes the others away.
    let last = address(docker, "last");
    served.docker.end();
    assert_eq!(net.addresses_on(BRIDGE), [last].into());
    let removed = fnctr(&net, &["rm", "-f", "last"]).output().expect("to run fnctr");
    assert!(
        removed.status.success(),
        "{}",
        String::from_utf8_lossy(&removed.stderr)
    );
    assert!(net.addresses_on(BRIDGE).is_empty());
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_serves_one_container_after_another_if_that_is_asked_for() {
    let Some(net) = Net::set("docker_pool_reuse").await else {
        return;
    };
    configure(&net);
    let served = Served::start(&net, &["--network-pool", "1", "--network-pool-reuse"]);
    served.until(&net, 1, |taken| taken.len() == 1).await;
    let (docker, prepared) = (&served.docker, net.addresses_on(BRIDGE));
    for round in 0..4 {
        let host = match round {
            2 => json!({ "NetworkMode": "bridge", "CapAdd": ["NET_ADMIN"] }),
            _ => json!({ "NetworkMode": "bridge" }),
        };
        docker.create("again", json!({ "Cmd": ["sleep", "1000"], "HostConfig": host }));
        docker.done("POST", "/containers/again/start");
        // One that could change it has one of its own.
        let is_prepared = prepared.contains(&address(docker, "again"));
        assert_eq!(is_prepared, round != 2, "round {round}");
        docker.done("DELETE", "/containers/again?force=1");
        served.until(&net, 1, |taken| *taken == prepared).await;
    }
    // One that joins it could change it, too: no other gets it after that.
    docker.create(
        "again",
        json!({ "Cmd": ["sleep", "1000"], "HostConfig": { "NetworkMode": "bridge" } }),
    );
    docker.done("POST", "/containers/again/start");
    let host = json!({ "NetworkMode": "container:again", "CapAdd": ["NET_ADMIN"] });
    docker.create("joins", json!({ "Cmd": ["sleep", "1000"], "HostConfig": host }));
    docker.done("POST", "/containers/joins/start");
    for name in ["joins", "again"] {
        docker.done("DELETE", &format!("/containers/{name}?force=1"));
    }
    served
        .until(&net, 1, |taken| taken.len() == 1 && *taken != prepared)
        .await;
    served.docker.end();
    assert!(net.addresses_on(BRIDGE).is_empty());
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
            "1..=500",
        ),
        (&["--network-pool", "501", "--docker-socket", "/s"], "1..=500"),
        (&["--network-pool", "1"], "--docker-socket"),
        (
            &["--network-pool-reuse", "--docker-socket", "/s"],
            "--network-pool",
        ),
    ] {
        let refused = fnctr(&net, &[&["serve"], args].concat())
            .output()
            .expect("to run fnctr");
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains(says), "{text}");
    }
    net.strike().await;
}
