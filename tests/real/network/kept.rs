//! Each run of a kept container has its own network, and the ports and names that the container was made with.

use std::net::SocketAddr;

use serde_json::Value;

use super::host::host_gets;
use super::ports::free_port;
use super::recovery::fnctr;
use super::rig::Net;

fn ok(net: &Net, args: &[&str]) -> String {
    let done = fnctr(net, args).output().expect("to run fnctr");
    let err = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {err}");
    String::from_utf8(done.stdout).expect("text")
}

fn inspected(net: &Net, id: &str) -> Value {
    serde_json::from_str(&ok(net, &["--json", "inspect", id])).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_started_again_is_reached_at_its_port_and_gives_it_back_in_between() {
    let Some(net) = Net::set("a_container_that_is_started_again").await else {
        return;
    };
    let port = free_port().to_string();
    let mapping = format!("{port}:8080");
    let served = "cp /etc/hosts /tmp/h; exec httpd -f -p 8080 -h /tmp";
    let words = ["create", "--name", "web", "--network", &net.name, "-p", &mapping];
    let more = ["--add-host", "db.local:10.9.8.7", "busybox", "sh", "-c", served];
    ok(&net, &[&words[..], &more].concat());
    // Nothing of a network is made before there is a run.
    assert!(net.addresses().is_empty());
    let at: SocketAddr = format!("127.0.0.1:{port}").parse().expect("an address");
    let mut sandboxes = Vec::new();
    for verb in ["start", "start", "restart"] {
        ok(&net, &[verb, "web"]);
        let hosts = host_gets(at, "/h").await.expect("to be served");
        let address = net
            .addresses()
            .into_iter()
            .next()
            .expect("an address")
            .to_string();
        for line in ["10.9.8.7\tdb.local", &address] {
            assert!(hosts.contains(line), "{verb}: {line:?} is not in {hosts}");
        }
        let seen = inspected(&net, "web");
        assert_eq!(seen["ports"][0]["host_port"].to_string(), port, "{seen}");
        sandboxes.push(seen["labels"]["io.fnctr.sandbox"].clone());
        if sandboxes.len() == 1 {
            ok(&net, &["stop", "web"]);
            net.settles().await;
            drop(std::net::TcpListener::bind(at).expect("it is free in between"));
        } else if sandboxes.len() == 2 {
            // A network of its own cannot be given to a taken port, and the container is as it was.
            ok(&net, &["stop", "web"]);
            let taken = std::net::TcpListener::bind(at).expect("it is free in between");
            let refused = fnctr(&net, &["start", "web"]).output().expect("to run fnctr");
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(!refused.status.success() && said.contains(&port), "{said}");
            assert_eq!(inspected(&net, "web")["state"], "exited");
            net.settles().await;
            drop(taken);
            ok(&net, &["start", "web"]);
        }
    }
    sandboxes.dedup();
    assert_eq!(sandboxes.len(), 3, "each run has its own: {sandboxes:?}");
    ok(&net, &["rm", "-f", "web"]);
    net.strike_networks().await;
}
