//! `none`, the host's network, another container's.

use fnctr::driver::{ErrorKind, Task};
use fnctr::{ContainerId, Network};

use super::rig::{Net, SERVER, run};
use crate::world::ctx;

fn of(id: &str) -> Network {
    Network::Of(ContainerId::new(id).expect("an id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn none_has_a_loopback_that_is_up_and_the_host_s_network_is_the_host_s() {
    let Some(net) = Net::set("none_has_a_loopback").await else {
        return;
    };
    let task = net.stage.task("");
    let none = run(
        &net.stage.driver,
        task,
        "ip -o link; (echo hi | nc -l -p 8080 &); sleep 0.3; nc 127.0.0.1 8080",
        |_| {},
    );
    let said = none.await.expect("a container").ends().await;
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(
        said.contains("1: lo: <LOOPBACK,UP") && said.ends_with("hi\n"),
        "{said}"
    );
    let host = net
        .another(|config, _| config.docker_networks = "host".into())
        .await
        .expect("a driver");
    let said = run(
        &host,
        net.task(""),
        "readlink /proc/self/ns/net; hostname",
        |_| {},
    );
    let said = said.await.expect("a container").ends().await;
    let own = std::fs::read_link("/proc/self/ns/net").expect("a link");
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    assert_eq!(said, format!("{}\n{hostname}", own.display()));
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_can_share_the_network_of_one_that_runs() {
    let Some(net) = Net::set("a_container_can_share").await else {
        return;
    };
    let server = net.runs(SERVER).await;
    let address = server.address().await;
    let client = "until wget -qO- http://127.0.0.1:8080/hostname; do sleep 0.1; done; hostname; cat /etc/hosts; readlink /proc/self/ns/net";
    let said = net
        .joins(of(&server.id), client)
        .await
        .expect("a container")
        .ends()
        .await;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[..2], [&server.id, &server.id], "{said}");
    assert!(said.contains(&format!("{address}\t{}", server.id)), "{said}");
    // One that has its loopback alone can be shared, too; then nothing but the two of them holds its namespace.
    let alone = run(
        &net.stage.driver,
        net.stage.task(""),
        "httpd -f -p 8080 -h /etc",
        |_| {},
    );
    let alone = alone.await.expect("a container");
    let said = net
        .joins(of(&alone.id), client)
        .await
        .expect("a container")
        .ends()
        .await;
    assert!(said.starts_with(&alone.id), "{said}");
    alone.close().await;
    server.close().await;
    // And the host's.
    let host = net
        .another(|config, _| config.docker_networks = "host".into())
        .await
        .expect("a driver");
    let on_host = run(&host, net.task(""), "sleep 1000", |_| {})
        .await
        .expect("a container");
    let said = net
        .joins(of(&on_host.id), "readlink /proc/self/ns/net")
        .await
        .expect("a container")
        .ends()
        .await;
    assert_eq!(
        said.trim(),
        std::fs::read_link("/proc/self/ns/net")
            .expect("a link")
            .display()
            .to_string()
    );
    on_host.close().await;
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_whose_container_is_gone_or_stopped_cannot_be_shared() {
    let Some(net) = Net::set("a_network_whose_container_is_gone").await else {
        return;
    };
    let refused = async |id: &str| {
        let refused = net
            .joins(of(id), "true")
            .await
            .err()
            .expect("no network to share");
        (refused.kind(), refused.report())
    };
    let (kind, why) = refused("nobody").await;
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(
        why.contains("cannot share the network of container nobody: there is no such container"),
        "{why}"
    );
    let ended = net.runs("true").await;
    let result = ended.wait.wait(&ctx()).await;
    assert_eq!(result.exit_code(), Some(0), "{result:?}");
    let (kind, why) = refused(&ended.id).await;
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(
        why.contains(&format!(
            "cannot share the network of container {}: it is not running",
            ended.id
        )),
        "{why}"
    );
    ended.close().await;

    // It stops between create and start.
    let target = net.runs("sleep 1000").await;
    let task = Task {
        disable_net: false,
        ..net.stage.task("")
    };
    let cookie = fnctr::driver::Driver::create_cookie(&net.stage.driver, &ctx(), std::sync::Arc::new(task))
        .await
        .expect("a cookie");
    let network = of(&target.id);
    cookie
        .change_options(|options: &mut fnctr::ContainerOptions| options.network = network.clone())
        .expect("an option");
    assert!(!cookie.validate_image(&ctx()).await.expect("an image"));
    cookie.create_container(&ctx()).await.expect("a container");
    let id = target.id.clone();
    target.close().await;
    let refused = cookie.run(&ctx()).await.expect_err("no network any more");
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused:?}");
    assert!(refused.report().contains(&id), "{}", refused.report());
    cookie.close(&ctx()).await.expect("to close");
    // Its own network, of course, is not there either.
    let own = net.task("");
    let (name, own_name) = (own.id.clone(), own.id.clone());
    let refused = run(&net.stage.driver, own, "true", |options| {
        options.network = of(&name)
    })
    .await
    .err()
    .expect("no");
    assert_eq!(refused.kind(), ErrorKind::InvalidTask);
    assert!(refused.report().contains(&own_name) && refused.report().contains("its own network"));
    net.strike().await;
}
