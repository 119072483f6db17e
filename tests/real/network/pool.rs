//! The pool of prepared network namespaces, as a host sees it.

use std::collections::BTreeSet;
use std::time::Duration;

use fnctr::driver::{Config, Driver as _};
use fnctr::oci::Capabilities;
use fnctr::{ContainerdDriver, PoolState};
use tokio::time::Instant;

use super::crowd::join_all;
use super::host::said;
use super::rig::{Net, Running, run};
use crate::patience::patient;
use crate::world::ctx;

const ADDRESS: &str = "echo address $(ip -4 -o addr show eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/')";

/// Waits until the pool is as wanted.
async fn until(driver: &ContainerdDriver, what: &str, is: impl Fn(&PoolState) -> bool) -> PoolState {
    let until = Instant::now() + patient(Duration::from_secs(30));
    loop {
        let state = driver.pool().expect("a pool");
        if is(&state) {
            return state;
        }
        assert!(Instant::now() < until, "not {what} in time: {state:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn pooled(net: &Net, size: u64, change: impl FnOnce(&mut Config)) -> ContainerdDriver {
    let driver = net.another(|config, _| {
        config.pre_fork_pool_size = size;
        config.pre_fork_networks.clone_from(&net.name);
        change(config);
    });
    let driver = driver.await.expect("a driver");
    let size = usize::try_from(size).expect("a size");
    until(&driver, "filled", |state| state.ready == size).await;
    driver
}

async fn start(net: &Net, driver: &ContainerdDriver, script: &str) -> Running {
    run(driver, net.task(""), script, |_| {})
        .await
        .expect("a container")
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_taken_given_back_and_gone_with_the_driver() {
    let Some(net) = Net::set("slots_are_taken").await else {
        return;
    };
    let driver = pooled(&net, 2, |_| {}).await;
    let prepared = net.addresses();
    assert_eq!(prepared.len(), 2);
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        let container = start(&net, &driver, ADDRESS).await;
        let address = container.address().await.to_string();
        assert!(prepared.contains(&address), "{address}");
        seen.insert(address);
        container.ends().await;
    }
    assert_eq!(seen, prepared, "they take turns");
    let state = until(&driver, "filled again", |state| state.ready == 2).await;
    assert_eq!((state.hits, state.misses, state.dead, state.leased), (6, 0, 0, 0));
    assert_eq!(net.addresses(), prepared);

    // An empty pool falls through, and counts it.
    let long = format!("{ADDRESS}; sleep 1000");
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(start(&net, &driver, &long).await);
    }
    let extra = running[2].address().await.to_string();
    assert!(!prepared.contains(&extra), "{extra}");
    assert_eq!(driver.pool().expect("a pool").misses, 1);
    for container in running {
        container.close().await;
    }
    driver.close(&ctx()).await.expect("to close");
    net.settles().await;
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_the_kernel_that_a_container_sets_are_not_the_next_ones() {
    const TTL: &str = "cat /proc/sys/net/ipv4/ip_default_ttl";
    let Some(net) = Net::set("parameters_of_the_kernel").await else {
        return;
    };
    let driver = pooled(&net, 1, |_| {}).await;
    let set = run(&driver, net.task(""), TTL, |options| {
        let name = "net.ipv4.ip_default_ttl".to_owned();
        options.config.sysctls.insert(name, "33".to_owned());
    });
    assert_eq!(set.await.expect("a container").ends().await, "33\n");
    assert_eq!(
        driver.pool().expect("a pool").hits,
        0,
        "it has a namespace of its own"
    );
    let administers = run(&driver, net.task(""), "true", |options| {
        let capabilities = Capabilities::Only(vec!["CAP_NET_ADMIN".to_owned()]);
        options.config.security.capabilities = capabilities;
    });
    administers.await.expect("a container").ends().await;
    assert_eq!(
        driver.pool().expect("a pool").hits,
        0,
        "one that could change it has its own, too"
    );
    assert_eq!(start(&net, &driver, TTL).await.ends().await, "64\n");
    assert_eq!(driver.pool().expect("a pool").hits, 1);
    driver.close(&ctx()).await.expect("to close");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_for_one_use_is_made_anew_each_time() {
    let Some(net) = Net::set("a_slot_for_one_use").await else {
        return;
    };
    let driver = pooled(&net, 1, |config| config.pre_fork_use_once = 1).await;
    let mut addresses = BTreeSet::new();
    for _ in 0..3 {
        until(&driver, "filled", |state| state.ready == 1).await;
        addresses.insert(start(&net, &driver, ADDRESS).await.ends().await);
    }
    // The plugin gives each the next one, and not the one that has just been freed.
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    driver.close(&ctx()).await.expect("to close");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_traffic_of_those_who_had_a_slot_before_is_not_counted() {
    let Some(net) = Net::set("the_traffic_of_those_before").await else {
        return;
    };
    let driver = pooled(&net, 1, |_| {}).await;
    let gateway: std::net::IpAddr = format!("{}.1", net.prefix).parse().expect("an address");
    let (port, serving) = super::host::host_sends(gateway, 300_000);
    let much = format!("nc {gateway} {port} </dev/null | wc -c; cat /proc/net/dev");
    let said = start(&net, &driver, &much).await.ends().await;
    serving.join().expect("a caller");
    assert!(said.starts_with("300000\n"), "{said}");
    let bytes = |said: &str| -> u64 {
        let line = said
            .lines()
            .find(|line| line.trim_start().starts_with("eth0:"))
            .expect("a line");
        line.split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .expect("a number")
    };
    assert!(bytes(&said) > 200_000, "{said}");
    until(&driver, "filled", |state| state.ready == 1).await;
    // Inside it is the namespace's own count, which no container starts; outside it is the container's.
    let (stats, seen) = std::sync::mpsc::channel();
    let task = fnctr::driver::Task {
        stats: Some(std::sync::Arc::new(move |stat: fnctr::driver::Stat| {
            drop(stats.send(stat))
        })),
        ..net.task("")
    };
    let container = run(&driver, task, "sleep 3; cat /proc/net/dev", |_| {})
        .await
        .expect("a container");
    let said = container.ends().await;
    assert!(bytes(&said) > 200_000, "the same slot: {said}");
    let received: Vec<_> = seen
        .try_iter()
        .filter_map(|stat| stat.metrics.get("net_rx").copied())
        .collect();
    assert!(
        !received.is_empty() && received.iter().all(|bytes| *bytes < 100_000),
        "{received:?}"
    );
    driver.close(&ctx()).await.expect("to close");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_slot_is_noticed_and_replaced() {
    let Some(net) = Net::set("a_dead_slot_is_noticed").await else {
        return;
    };
    let driver = pooled(&net, 2, |_| {}).await;
    // Somebody takes a namespace away.
    let mut pins = std::fs::read_dir(net.dir("run/netns")).expect("pins").flatten();
    let pin = pins.next().expect("a pin").path();
    nix::mount::umount2(&pin, nix::mount::MntFlags::MNT_DETACH).expect("to unmount it");
    // Whoever takes next gets the other one, or a new one, and never that one.
    for _ in 0..3 {
        until(&driver, "two, of which one may be the dead one", |state| {
            state.ready == 2
        })
        .await;
        start(&net, &driver, "ip addr show eth0 >/dev/null")
            .await
            .ends()
            .await;
    }
    let state = until(&driver, "filled again", |state| state.ready == 2).await;
    assert_eq!((state.dead, state.misses), (1, 0), "{state:?}");
    // Somebody takes the network out of one: only its plugins notice.
    let pin = std::fs::read_dir(net.dir("run/netns"))
        .expect("pins")
        .flatten()
        .next()
        .expect("a pin")
        .path();
    said(
        "nsenter",
        &[&format!("--net={}", pin.display()), "ip", "link", "del", "eth0"],
    );
    until(&driver, "noticed", |state| state.dead == 2 && state.ready == 2).await;
    driver.close(&ctx()).await.expect("to close");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_which_somebody_stays_is_nobodys() {
    let Some(net) = Net::set("a_slot_in_which_somebody_stays").await else {
        return;
    };
    let driver = pooled(&net, 1, |_| {}).await;
    let container = start(&net, &driver, "sleep 1000").await;
    let shares = fnctr::Network::Of(fnctr::ContainerId::new(&container.id).expect("an id"));
    let guest = run(&driver, net.task(""), "sleep 1000", |options| {
        options.network = shares
    });
    let guest = guest.await.expect("a container");
    container.close().await;
    let state = until(&driver, "replaced", |state| state.ready == 1).await;
    assert_eq!(state.dead, 1, "{state:?}");
    let after = start(&net, &driver, "readlink /proc/self/ns/net")
        .await
        .ends()
        .await;
    assert!(after.starts_with("net:["), "{after}");
    guest.close().await;
    driver.close(&ctx()).await.expect("to close");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_may_live_in_each_slot() {
    let Some(net) = Net::set("a_container_may_live").await else {
        return;
    };
    // No other process of this host has this command.
    let command = format!("sleep 9{}", std::process::id());
    let driver = pooled(&net, 2, |config| {
        config.pre_fork_image = "busybox".into();
        config.pre_fork_cmd.clone_from(&command);
        config.container_label_tag = "fnctr-pool-test".into();
        config.instance_id = "ours".into();
    })
    .await;
    let prepared = net.addresses();
    let container = start(&net, &driver, &format!("{ADDRESS}; sleep 1000")).await;
    assert!(prepared.contains(&container.address().await.to_string()));
    container.close().await;
    until(&driver, "filled again", |state| state.ready == 2).await;
    // A holder that ends takes its slot with it.
    let pids = said("pgrep", &["-x", "-f", &command]);
    let pid = pids
        .lines()
        .last()
        .and_then(|pid| pid.parse().ok())
        .expect("a holder");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .expect("to kill it");
    let state = until(&driver, "noticed", |state| state.dead > 0 && state.ready == 2).await;
    assert_eq!(state.dead, 1);
    driver.close(&ctx()).await.expect("to close");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_grows_when_it_was_empty() {
    let Some(net) = Net::set("a_pool_grows").await else {
        return;
    };
    let driver = net.another(|config, settings| {
        config.pre_fork_pool_size = 1;
        config.pre_fork_networks.clone_from(&net.name);
        settings.pool_ceiling = 3;
    });
    let driver = driver.await.expect("a driver");
    until(&driver, "filled", |state| state.ready == 1).await;
    let long = format!("{ADDRESS}; sleep 1000");
    let crowd = join_all((0..4).map(|_| start(&net, &driver, &long))).await;
    for container in crowd {
        container.close().await;
    }
    until(&driver, "grown", |state| state.target == 3 && state.ready == 3).await;
    driver.close(&ctx()).await.expect("to close");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_container_that_another_process_removes_leaves_its_slot_to_the_pool() {
    let Some(net) = Net::set("a_pooled_container_that_another").await else {
        return;
    };
    let driver = pooled(&net, 1, |_| {}).await;
    let prepared = net.addresses();
    let container = start(&net, &driver, "sleep 1000").await;
    let removed = super::recovery::fnctr(&net, &["rm", "--force", &container.id])
        .output()
        .expect("to remove it");
    assert!(
        removed.status.success(),
        "{}",
        String::from_utf8_lossy(&removed.stderr)
    );
    assert_eq!(net.addresses(), prepared, "it is the pool's");
    container.close().await;
    until(&driver, "washed", |state| state.ready == 1).await;
    let next = start(&net, &driver, ADDRESS).await;
    assert!(prepared.contains(&next.address().await.to_string()));
    next.ends().await;
    driver.close(&ctx()).await.expect("to close");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_given_up_is_removed_once_nobody_lives_in_it() {
    let Some(net) = Net::set("a_slot_that_was_given_up").await else {
        return;
    };
    let driver = pooled(&net, 1, |_| {}).await;
    let container = start(&net, &driver, "sleep 1000").await;
    let id = fnctr::ContainerId::new(&container.id).expect("an id");
    // Its host forgets it and leaves it running, as after an upgrade.
    let other = net.another(|_, _| {}).await.expect("a driver");
    let taken = other.adopt(&ctx(), &id).await.expect("it runs");
    let state = until(&driver, "taken", |state| state.leased == 1).await;
    assert_eq!(state.ready, 0);
    taken.cookie.close(&ctx()).await.expect("to close");
    // The handle of the one that made it ends without a close.
    drop(container);
    until(&driver, "as before", |state| {
        state.ready == 1 && state.leased == 0
    })
    .await;
    driver.close(&ctx()).await.expect("to close");
    other.close(&ctx()).await.expect("to close");
    net.strike().await;
}
