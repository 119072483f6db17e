//! Many at once on one bridge.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, TcpListener};

use super::host::host_gets;
use super::rig::{Net, SERVER, run};

const CROWD: usize = 50;
const FRIENDS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_have_different_addresses_and_reach_the_host_and_one_another() {
    let Some(net) = Net::set("fifty_at_once").await else {
        return;
    };
    // Each waits for the addresses of all, then asks the next few of them for their names, and the host for a word. Not all:
    // the kernel's table of neighbours is one for all namespaces, and has 1024 places (arp(7), gc_thresh3).
    let gateway: IpAddr = format!("{}.1", net.prefix).parse().expect("an address");
    let peers = net.dir("peers");
    std::fs::create_dir(&peers).expect("a directory");
    let script = format!(
        "{SERVER} & \
         while [ ! -e /peers/all ]; do sleep 0.2; done; i=0; port=$(cat /peers/port); \
         while read -r peer; do \
            until wget -qO- http://$peer:8080/hostname >/dev/null; do sleep 0.2; done; i=$((i+1)); \
         done < /peers/$(hostname); \
         until [ \"$(nc {gateway} $port </dev/null)\" = hello ]; do sleep 0.2; done; \
         echo reached $i; sleep 1000"
    );
    let started = (0..CROWD).map(|_| {
        let mut task = net.task("");
        task.volumes = vec![(peers.clone(), "/peers".to_owned())];
        run(&net.stage.driver, task, &script, |_| {})
    });
    let running: Vec<_> = join_all(started)
        .await
        .into_iter()
        .map(|run| run.expect("a container"))
        .collect();
    let mut addresses = BTreeSet::new();
    for container in &running {
        addresses.insert(container.address().await.to_string());
    }
    assert_eq!(addresses.len(), CROWD, "{addresses:?}");
    assert_eq!(net.addresses(), addresses);
    for address in &addresses {
        let at = format!("{address}:8080").parse().expect("an address");
        host_gets(at, "/hostname")
            .await
            .expect("to reach it from the host");
    }
    let listener = TcpListener::bind((gateway, 0)).expect("to listen");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            drop(stream.write_all(b"hello\n"));
        }
    });
    std::fs::write(peers.join("port"), port.to_string()).expect("a file");
    let mut ring = Vec::new();
    for container in &running {
        ring.push((container.id.clone(), container.address().await));
    }
    for (at, (id, _)) in ring.iter().enumerate() {
        let next = ring.iter().cycle().skip(at + 1).take(FRIENDS);
        let next: Vec<_> = next.map(|(_, address)| format!("{address}\n")).collect();
        std::fs::write(peers.join(id), next.concat()).expect("a file");
    }
    std::fs::write(peers.join("all"), "").expect("a file");
    for container in &running {
        assert_eq!(container.line("reached ").await, FRIENDS.to_string());
    }
    join_all(running.into_iter().map(super::rig::Running::close)).await;
    assert!(net.addresses().is_empty(), "{:?}", net.addresses());
    std::fs::remove_dir_all(&peers).expect("to remove it");
    net.strike().await;
}

pub(super) async fn join_all<T: Send>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        for (one, done) in &mut running {
            if done.is_none()
                && let std::task::Poll::Ready(value) = one.as_mut().poll(cx)
            {
                *done = Some(value);
            }
        }
        if running.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}
