//! Who reaches whom on a bridge network.

use std::net::{IpAddr, SocketAddr};

use super::host::{host_gets, host_serves};
use super::rig::{Net, SERVER};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_a_client_and_the_host_reach_each_other() {
    let Some(net) = Net::set("a_server_a_client_and_the_host").await else {
        return;
    };
    let server = net.runs(SERVER).await;
    let address = server.address().await;
    assert!(address.to_string().starts_with(&net.prefix), "{address}");
    // From the host.
    let at = SocketAddr::new(address, 8080);
    let served = host_gets(at, "/hostname").await.expect("to be served");
    assert_eq!(served.trim(), server.id);
    // From another container, by its address.
    let client = format!(
        "until wget -qO- http://{address}:8080/hostname; do sleep 0.1; done; ip -4 -o addr show eth0"
    );
    let said = net.says(&client).await;
    assert!(said.starts_with(&server.id), "{said}");
    assert!(
        said.contains(&format!("inet {}.", net.prefix)) && !said.contains(&format!("{address}/")),
        "{said}"
    );
    // To the host.
    let gateway: IpAddr = format!("{}.1", net.prefix).parse().expect("an address");
    let (port, serving) = host_serves(gateway);
    let said = net.says(&format!("nc {gateway} {port} </dev/null")).await;
    assert_eq!(said, "hello from the host\n");
    let from = serving.join().expect("a caller").ip();
    assert!(from.to_string().starts_with(&net.prefix), "{from}");
    server.close().await;
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unprivileged_function_may_ping_and_listen_on_any_port_of_its_own() {
    let Some(net) = Net::set("an_unprivileged_function_may_ping").await else {
        return;
    };
    // Debian's busybox has no ping without a raw socket, so the kernel's permission is what is looked at.
    let said = net
        .says("id -u; cat /proc/sys/net/ipv4/ping_group_range; (echo hi | nc -l -p 80 &); sleep 0.5; nc 127.0.0.1 80")
        .await;
    assert_eq!(said, "1000\n0\t2147483647\nhi\n");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_networks_the_one_that_is_used_least_is_next() {
    let Some(mut net) = Net::set("of_several_networks").await else {
        return;
    };
    let ((second, of_second), (third, of_third)) = (net.add("b"), net.add("c"));
    let all = [net.name.clone(), second, third].join(" ");
    let driver = net
        .another(|config, _| config.docker_networks = all)
        .await
        .expect("a driver");
    let script = "echo address $(ip -4 -o addr show eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'); sleep 1000";
    let mut running = Vec::new();
    for _ in 0..4 {
        running.push(
            super::rig::run(&driver, net.task(""), script, |_| {})
                .await
                .expect("a container"),
        );
    }
    let mut subnets = Vec::new();
    for container in &running {
        let address = container.address().await.to_string();
        subnets.push(
            address
                .rsplit_once('.')
                .map(|(subnet, _)| subnet.to_owned())
                .unwrap_or_default(),
        );
    }
    let first = net.prefix.clone();
    assert_eq!(subnets, [first.clone(), of_second, of_third.clone(), first]);
    // Given back, it is the least used again.
    running.remove(2).close().await;
    let next = super::rig::run(&driver, net.task(""), script, |_| {})
        .await
        .expect("a container");
    let address = next.address().await.to_string();
    assert!(address.starts_with(&format!("{of_third}.")), "{address}");
    running.push(next);
    for container in running {
        container.close().await;
    }
    fnctr::driver::Driver::close(&driver, &crate::world::ctx())
        .await
        .expect("to close");
    net.strike().await;
}
