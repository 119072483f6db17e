//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` as a container finds them.

use fnctr::driver::Task;

use super::rig::{Net, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_finds_itself_and_resolvers_that_it_can_reach() {
    let Some(net) = Net::set("a_container_finds_itself").await else {
        return;
    };
    let look = "cat /etc/hostname /etc/resolv.conf; echo --; grep \"$(hostname)\" /etc/hosts; echo x >> /etc/hosts || echo read-only";
    let attached = net.runs(look).await;
    let id = attached.id.clone();
    let said = attached.ends().await;
    assert!(said.starts_with(&format!("{id}\n")), "{said}");
    let resolvers: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("nameserver"))
        .collect();
    assert!(
        resolvers
            .iter()
            .all(|line| !line.contains(" 127.") && !line.contains(" ::1")),
        "{said}"
    );
    let own = said.split("--\n").nth(1).unwrap_or_default();
    assert!(
        own.starts_with(&format!("{}.", net.prefix)) && own.contains(&id),
        "{said}"
    );
    // Whoever is root inside cannot fill the host's memory with it.
    assert!(own.ends_with("read-only\n"), "{said}");

    let none = run(&net.stage.driver, net.stage.task(""), look, |_| {})
        .await
        .expect("a container");
    let id = none.id.clone();
    let said = none.ends().await;
    assert!(
        said.contains(&format!("127.0.1.1\t{id}")) && !said.contains("nameserver"),
        "{said}"
    );

    let host = net
        .another(|config, _| config.docker_networks = "host".into())
        .await
        .expect("a driver");
    let said = run(&host, net.task(""), "cat /etc/hosts /etc/resolv.conf", |_| {})
        .await
        .expect("a container")
        .ends()
        .await;
    let own = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(said, own("/etc/hosts") + &own("/etc/resolv.conf"));
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_task_s_own_come_first() {
    let Some(net) = Net::set("files_of_the_task_s_own").await else {
        return;
    };
    let hosts = net.dir("my-hosts");
    std::fs::write(&hosts, "192.0.2.7\tmine\n").expect("a file");
    let task = Task {
        volumes: vec![(hosts, "/etc/hosts".to_owned())],
        ..net.task("")
    };
    let said = run(
        &net.stage.driver,
        task,
        "cat /etc/hosts; test -s /etc/hostname && echo too",
        |_| {},
    );
    assert_eq!(
        said.await.expect("a container").ends().await,
        "192.0.2.7\tmine\ntoo\n"
    );
    std::fs::remove_file(net.dir("my-hosts")).expect("to remove it");
    net.strike().await;
}
