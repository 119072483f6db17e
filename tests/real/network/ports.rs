//! Published ports.

use std::net::{SocketAddr, TcpListener};

use fnctr::driver::ErrorKind;
use serde_json::Value;

use super::cli::told;
use super::host::host_gets;
use super::rig::{Net, SERVER, attached};

/// A port that nobody has now.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").expect("to listen");
    listener.local_addr().expect("an address").port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_port_leads_into_the_container_until_it_is_gone() {
    let Some(net) = Net::set("a_published_port_leads").await else {
        return;
    };
    let port = free_port();
    let mapping = format!("{port}:8080");
    let server = net
        .joins(attached(&net.name, &[&mapping]), SERVER)
        .await
        .expect("a server");
    server.address().await;
    let gateway = format!("{}.1:{port}", net.prefix);
    for at in [format!("127.0.0.1:{port}"), gateway.clone()] {
        let at: SocketAddr = at.parse().expect("an address");
        let served = host_gets(at, "/hostname").await.expect("to be served");
        assert_eq!(served.trim(), server.id, "{at}");
    }
    // From a neighbour, by way of the host.
    let said = net.says(&format!("wget -qO- http://{gateway}/hostname")).await;
    assert_eq!(said.trim(), server.id);

    let taken = net
        .joins(attached(&net.name, &[&mapping]), "true")
        .await
        .err()
        .expect("it is taken");
    assert_eq!(taken.kind(), ErrorKind::Conflict, "{taken:?}");
    assert!(
        taken.report().contains(&format!(
            "port {port}:8080/tcp cannot be published: container {} has it",
            server.id
        )),
        "{}",
        taken.report()
    );
    server.close().await;
    net.settles().await;
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("it is free again");
    let taken = net
        .joins(attached(&net.name, &[&mapping]), "true")
        .await
        .err()
        .expect("it is taken");
    assert!(taken.report().contains("another program"), "{}", taken.report());
    drop(listener);
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_cannot_publish_says_so() {
    let Some(net) = Net::set("a_network_that_cannot_publish").await else {
        return;
    };
    let mut list = net.list(&net.name, &format!("{}.0/24", net.prefix));
    list["plugins"].as_array_mut().expect("a list").truncate(1);
    net.configure(&net.name, &list);
    let refused = net
        .joins(attached(&net.name, &["18080:80"]), "true")
        .await
        .err()
        .expect("it cannot");
    assert_eq!(refused.kind(), ErrorKind::InvalidTask);
    assert!(
        refused.report().contains("cannot publish ports"),
        "{}",
        refused.report()
    );
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_want_a_port_at_the_same_moment_one_has_it() {
    let Some(net) = Net::set("of_two_who_want_a_port").await else {
        return;
    };
    for _ in 0..3 {
        let mapping = format!("{}:8080", free_port());
        let both = (0..4).map(|_| net.joins(attached(&net.name, &[&mapping]), "sleep 1000"));
        let (mut have, mut refused) = (Vec::new(), 0);
        for joined in super::crowd::join_all(both).await {
            match joined {
                Ok(running) => have.push(running),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
                    refused += 1;
                }
            }
        }
        assert_eq!((have.len(), refused), (1, 3));
        for running in have {
            running.close().await;
        }
    }
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_left_to_the_host_is_chosen_at_each_start_and_shown() {
    let Some(net) = Net::set("a_port_that_is_left").await else {
        return;
    };
    let network = net.name.clone();
    let run = [
        "run",
        "--detach",
        "--rm=false",
        "--name",
        "chosen",
        "--network",
        &network,
    ];
    let ports = ["-p", "0:8080", "-p", "127.0.0.1:0:8080", "-p", "0:8080/udp"];
    let (started, text) = told(
        &net,
        &[&run[..], &ports, &["busybox", "sh", "-c", SERVER]].concat(),
    );
    assert!(started, "{text}");
    for _ in 0..2 {
        let (_, text) = told(&net, &["--json", "ps"]);
        let row: Value = serde_json::from_str(text.trim()).expect("a row");
        let chosen: Vec<u16> = row["ports"]
            .as_array()
            .expect("ports")
            .iter()
            .map(|port| u16::try_from(port["host_port"].as_u64().expect("a port")).expect("a port"))
            .collect();
        assert!(chosen.len() == 3 && !chosen.contains(&0), "{row}");
        assert_ne!(chosen[0], chosen[1], "{row}");
        let (_, all) = told(&net, &["port", "chosen"]);
        let expected = [
            format!("8080/tcp -> 0.0.0.0:{}", chosen[0]),
            format!("8080/tcp -> 127.0.0.1:{}", chosen[1]),
            format!("8080/udp -> 0.0.0.0:{}", chosen[2]),
        ];
        assert_eq!(all.lines().collect::<Vec<_>>(), expected);
        let (_, udp) = told(&net, &["port", "chosen", "8080/udp"]);
        assert_eq!(udp.trim(), format!("0.0.0.0:{}", chosen[2]));
        let (is_there, said) = told(&net, &["port", "chosen", "81"]);
        assert!(!is_there && said.contains("leads to port 81"), "{said}");
        for port in &chosen[..2] {
            let at: SocketAddr = format!("127.0.0.1:{port}").parse().expect("an address");
            host_gets(at, "/hostname").await.expect("to be served");
        }
        let (restarted, text) = told(&net, &["restart", "--time", "0s", "chosen"]);
        assert!(restarted, "{text}");
    }
    assert!(told(&net, &["rm", "--force", "chosen"]).0);
    net.strike().await;
}
