//! What is configured wrong, what runs out, what hangs: each a sentence, and nothing left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use fnctr::driver::ErrorKind;
use serde_json::json;

use super::recovery::fnctr;
use super::rig::{Net, attached, run};
use crate::world::ctx;

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_network_plugin_or_a_broken_file_is_named_before_anything_is_made() {
    let Some(net) = Net::set("a_missing_network_plugin").await else {
        return;
    };
    let refused = async |network: &str| {
        let refused = net
            .joins(attached(network, &[]), "true")
            .await
            .err()
            .expect("to be refused");
        assert_eq!(net.world(), net.world());
        (refused.kind(), refused.report())
    };
    let (kind, why) = refused("nowhere").await;
    assert_eq!(kind, ErrorKind::InvalidTask);
    assert!(
        why.contains("there is no network \"nowhere\"; there are ") && why.contains(&net.name),
        "{why}"
    );
    net.configure(
        "unplugged",
        &json!({ "cniVersion": "1.0.0", "name": "unplugged", "plugins": [{ "type": "no-such-plugin" }] }),
    );
    let (kind, why) = refused("unplugged").await;
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(
        why.contains("network unplugged needs the CNI plugin \"no-such-plugin\""),
        "{why}"
    );
    fs::write(net.dir("net.d/broken.conflist"), "{ \"cniVersion\":").expect("a file");
    let (kind, why) = refused("broken").await;
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(why.contains("broken.conflist is broken: it is not JSON"), "{why}");
    // What the plugin itself refuses, in its own words; the address that was given by then is given back.
    let mut list = net.list("odd", &format!("{}.0/24", net.prefix));
    list["plugins"][0]["vlan"] = json!(9999);
    net.configure("odd", &list);
    let (kind, why) = refused("odd").await;
    assert_eq!(kind, ErrorKind::Internal);
    assert!(
        why.contains("CNI plugin \"bridge\" of network odd failed to ADD: ") && why.contains("9999"),
        "{why}"
    );
    for name in ["unplugged", "broken", "odd"] {
        fs::remove_file(net.dir("net.d").join(format!("{name}.conflist"))).expect("to remove it");
    }
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_addresses_are_taken_the_host_is_busy_until_one_is_free() {
    // Six addresses, one of which is the gateway's.
    let Some(net) = Net::with("when_all_addresses_are_taken", 29, |_| {}).await else {
        return;
    };
    let mut running = Vec::new();
    for _ in 0..5 {
        running.push(net.runs("sleep 1000").await);
    }
    let full = run(&net.stage.driver, net.task(""), "true", |_| {})
        .await
        .err()
        .expect("no address");
    assert_eq!(full.kind(), ErrorKind::Busy, "{full:?}");
    assert!(
        full.report().contains("no IP addresses available"),
        "{}",
        full.report()
    );
    assert_eq!(net.addresses().len(), 5);
    running.pop().expect("one").close().await;
    net.runs("true").await.ends().await;
    for container in running {
        container.close().await;
    }
    net.strike().await;
}

/// A plugin that does what the real one does, and then nothing any more.
fn hanging(net: &Net, command: &str) {
    let dir = net.dir("plugins");
    fs::create_dir_all(&dir).expect("a directory");
    let script = format!(
        "#!/bin/sh\necho $CNI_COMMAND >> {d}/log\n[ $CNI_COMMAND = {command} ] && [ ! -e {d}/well ] && {{ /usr/lib/cni/bridge; exec sleep 1000; }}\nexec /usr/lib/cni/bridge\n",
        d = dir.display()
    );
    fs::write(dir.join("bridge"), script).expect("a file");
    fs::set_permissions(dir.join("bridge"), fs::Permissions::from_mode(0o755)).expect("a program");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_hangs_is_ended_and_what_it_did_is_undone() {
    let Some(net) = Net::set("a_plugin_that_hangs").await else {
        return;
    };
    hanging(&net, "ADD");
    let plugins = net.dir("plugins");
    let driver = net
        .another(|_, settings| {
            settings.networks.plugin_dirs.insert(0, plugins);
            settings.networks.plugin_patience = Duration::from_secs(3);
        })
        .await
        .expect("a driver");
    let hung = run(&driver, net.task(""), "true", |_| {})
        .await
        .err()
        .expect("it hangs");
    assert_eq!(hung.kind(), ErrorKind::Internal, "{hung:?}");
    assert!(
        hung.report().contains("did not ADD in 3 s, and was ended"),
        "{}",
        hung.report()
    );
    let log = fs::read_to_string(net.dir("plugins/log")).expect("a log");
    assert_eq!(log, "ADD\nDEL\n");
    assert!(net.addresses().is_empty());
    net.settles().await;
    // The caller's own deadline ends it as well.
    let cookie = fnctr::driver::Driver::create_cookie(&driver, &ctx(), std::sync::Arc::new(net.task("true")))
        .await
        .expect("a cookie");
    assert!(!cookie.validate_image(&ctx()).await.expect("an image"));
    let short = fnctr::Context::timeout(Duration::from_millis(1000));
    let late = cookie.create_container(&short).await.expect_err("no time");
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late:?}");
    cookie.close(&ctx()).await.expect("to close");
    net.settles().await;
    fs::remove_dir_all(net.dir("plugins")).expect("to remove them");
    fnctr::driver::Driver::close(&driver, &ctx())
        .await
        .expect("to close");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_fails_to_detach_is_an_error_and_closing_again_mends_it() {
    let Some(net) = Net::set("a_plugin_that_fails_to_detach").await else {
        return;
    };
    hanging(&net, "DEL");
    let plugins = net.dir("plugins");
    let driver = net
        .another(|_, settings| {
            settings.networks.plugin_dirs.insert(0, plugins.clone());
            settings.networks.plugin_patience = Duration::from_millis(1500);
            settings.close_grace = Duration::from_secs(4);
        })
        .await
        .expect("a driver");
    let running = run(&driver, net.task(""), "sleep 1000", |_| {})
        .await
        .expect("a container");
    let stuck = running
        .cookie
        .close(&ctx())
        .await
        .expect_err("it does not detach");
    assert!(
        stuck.report().contains("its network could not be removed"),
        "{}",
        stuck.report()
    );
    fs::write(net.dir("plugins/well"), "").expect("a file");
    running.cookie.close(&ctx()).await.expect("to close");
    net.settles().await;
    fs::remove_dir_all(net.dir("plugins")).expect("to remove them");
    fnctr::driver::Driver::close(&driver, &ctx())
        .await
        .expect("to close");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_networks_one_that_is_full_is_passed_over() {
    let Some(mut net) = Net::with("of_several_networks_one_that_is_full", 29, |_| {}).await else {
        return;
    };
    let (second, prefix) = net.add("b");
    let both = [net.name.clone(), second].join(" ");
    // It knows nothing of what another driver has taken meanwhile.
    let driver = net
        .another(|config, _| config.docker_networks = both)
        .await
        .expect("a driver");
    let mut running = Vec::new();
    for _ in 0..5 {
        running.push(net.runs("sleep 1000").await);
    }
    let script = "ip -4 -o addr show eth0";
    let said = run(&driver, net.task(""), script, |_| {})
        .await
        .expect("a container")
        .ends()
        .await;
    assert!(said.contains(&format!("inet {prefix}.")), "{said}");
    assert_eq!(net.addresses().len(), 5);
    for container in running {
        container.close().await;
    }
    fnctr::driver::Driver::close(&driver, &ctx())
        .await
        .expect("to close");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_say_what_is_whose_are_the_engine_s_alone() {
    let Some(net) = Net::set("labels_that_say_what_is_whose").await else {
        return;
    };
    let treasure = net.dir("treasure");
    fs::write(&treasure, "").expect("a file");
    let running = run(&net.stage.driver, net.stage.task(""), "sleep 1000", |options| {
        options
            .labels
            .insert("io.fnctr.sandbox".into(), "../../treasure".into());
        options.labels.insert("mine".into(), "kept".into());
    });
    let running = running.await.expect("a container");
    let seen = super::recovery::fnctr(&net, &["--json", "inspect", &running.id])
        .output()
        .expect("to look")
        .stdout;
    let seen: serde_json::Value = serde_json::from_slice(&seen).expect("JSON");
    assert_eq!(seen["labels"]["mine"], "kept", "{seen}");
    assert_eq!(seen["labels"].get("io.fnctr.sandbox"), None, "{seen}");
    let removed = super::recovery::fnctr(&net, &["rm", "--force", &running.id])
        .output()
        .expect("to remove it");
    assert!(
        removed.status.success(),
        "{}",
        String::from_utf8_lossy(&removed.stderr)
    );
    running.close().await;
    fs::remove_file(&treasure).expect("it is still there");
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_a_network_is_removed_where_no_file_can_be_made() {
    let Some(net) = Net::set("a_container_with_a_network_is_removed_where_no_file").await else {
        return;
    };
    let journal = net.dir("sandboxes");
    fs::create_dir_all(&journal).expect("a directory");
    let options = Some("size=1m,nr_inodes=12");
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &journal, Some("tmpfs"), flags, options).expect("a tmpfs");
    let run = ["run", "--detach", "--network", &net.name, "--name"];
    let run = |name| {
        let command = ["busybox", "sleep", "600"];
        let args: Vec<_> = run.iter().copied().chain([name]).chain(command).collect();
        fnctr(&net, &args).output().expect("to run fnctr")
    };
    let started = run("full");
    assert!(started.status.success(), "{started:?}");
    let mut count = 0;
    while fs::File::create_new(journal.join(format!("fill-{count}"))).is_ok() {
        count += 1;
    }
    let refused = run("another");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(125), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    let removed = fnctr(&net, &["rm", "--force", "full"]).output();
    let removed = removed.expect("to run fnctr");
    assert!(removed.status.success(), "{removed:?}");
    nix::mount::umount2(&journal, nix::mount::MntFlags::MNT_DETACH).expect("to unmount it");
    net.strike().await;
}
