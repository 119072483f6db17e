//! What is left when a process is killed, or the power goes, is undone by the next start; what lives is kept.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::host::{host_gets, said};
use super::rig::{Net, run};
use crate::patience::patient;
use crate::world::ctx;

pub(super) fn fnctr(net: &Net, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fnctr"));
    command
        .arg("--address")
        .arg(net.stage.real.address())
        .args(["--namespace", net.stage.real.namespace()])
        .args(["--cgroup-parent", crate::world::cgroup_parent()])
        .arg("--root")
        .arg(net.dir(""))
        .arg("--cni-config-dir")
        .arg(net.dir("net.d"))
        .args(crate::world::runtime().map(|runtime| format!("--runtime={runtime}")));
    if std::env::var_os("FNCTR_TEST_SYSTEMD").is_some() {
        command.args(["--cgroup-driver", "systemd"]);
    }
    // Last, because what follows an image is the function's.
    command.args(args).stdin(Stdio::null());
    command
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let until = Instant::now() + patient(Duration::from_secs(60));
    while !is() {
        assert!(Instant::now() < until, "not {what} in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn kill(mut child: Child) {
    child.kill().expect("to kill it");
    child.wait().expect("its end");
}

/// The next start of a process of ours: the names of the containers that it finds.
fn listed(net: &Net) -> Vec<String> {
    let rows = fnctr(net, &["--json", "ps", "--all"]).output().expect("to list");
    let text = String::from_utf8(rows.stdout).expect("text");
    let rows = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    rows.filter_map(|row: serde_json::Value| row["id"].as_str().map(str::to_owned))
        .collect()
}

/// containerd's own list.
fn records(net: &Net) -> String {
    let (address, namespace) = (net.stage.real.address(), net.stage.real.namespace());
    let address = address.to_str().expect("a path");
    said(
        "ctr",
        &[
            "--address",
            address,
            "--namespace",
            namespace,
            "containers",
            "list",
            "--quiet",
        ],
    )
}

fn remove(net: &Net, id: &str) {
    succeeds(fnctr(net, &["rm", "--force", id]));
}

fn succeeds(mut command: Command) {
    let done = command.output().expect("to start fnctr");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn entries(net: &Net) -> Vec<PathBuf> {
    let dir = fs::read_dir(net.dir("sandboxes")).into_iter().flatten().flatten();
    dir.map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_between_add_and_start_leaves_nothing_after_the_next_start() {
    let Some(net) = Net::set("a_process_that_is_killed_between").await else {
        return;
    };
    // With each round it comes further.
    for delay in [0, 60, 120, 180, 240, 300, 360, 420] {
        let running = fnctr(&net, &["run", "--network", &net.name, "busybox", "sleep", "1000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let running = running.expect("to start fnctr");
        until("begun", || !entries(&net).is_empty()).await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        kill(running);
        // The next command is the next start. A container whose process is there is removed by its name.
        for id in listed(&net) {
            remove(&net, &id);
        }
        net.settles().await;
    }
    net.strike_networks().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_lives_in_is_kept_and_goes_with_it() {
    let Some(net) = Net::set("what_a_container_lives_in").await else {
        return;
    };
    succeeds(fnctr(
        &net,
        &[
            "run",
            "--detach",
            "--name",
            "kept",
            "--network",
            &net.name,
            "busybox",
            "httpd",
            "-f",
            "-p",
            "8080",
            "-h",
            "/etc",
        ],
    ));
    let address = net.addresses().into_iter().next().expect("an address");
    let at = format!("{address}:8080").parse().expect("an address");
    // Three starts, each of which looks for what is left.
    for _ in 0..3 {
        let listed = fnctr(&net, &["ps"]).output().expect("to list");
        assert!(String::from_utf8_lossy(&listed.stdout).contains("kept"));
        let served = host_gets(at, "/hostname").await.expect("it is still reached");
        assert_eq!(served.trim(), "kept");
    }
    remove(&net, "kept");
    net.settles().await;
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_power_cut_all_addresses_and_rules_are_given_back() {
    let Some(net) = Net::set("after_a_power_cut").await else {
        return;
    };
    let args = [
        "run",
        "--detach",
        "--name",
        "cut",
        "--network",
        &net.name,
        "-p",
        "28080:80",
        "busybox",
        "sleep",
        "1000",
    ];
    succeeds(fnctr(&net, &args));
    assert_eq!(net.addresses().len(), 1);
    // What a power cut takes: processes, mounts, links. What it leaves: containerd's records, files on disk.
    let container = net
        .stage
        .driver
        .adopt(&ctx(), &fnctr::ContainerId::new("cut").expect("an id"))
        .await
        .expect("it");
    let pid = fnctr(&net, &["--json", "inspect", "cut"])
        .output()
        .expect("to look")
        .stdout;
    let pid: serde_json::Value = serde_json::from_slice(&pid).expect("JSON");
    let pid = i32::try_from(pid["pid"].as_i64().expect("a pid")).expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .expect("to kill it");
    let ended = container.running.wait(&ctx()).await;
    assert_eq!(ended.exit_code(), Some(137), "{ended:?}");
    drop(container);
    for pin in fs::read_dir(net.dir("fifos/netns")).expect("pins").flatten() {
        nix::mount::umount2(&pin.path(), nix::mount::MntFlags::MNT_DETACH).expect("to unmount");
        fs::remove_file(pin.path()).expect("to remove");
    }
    remove(&net, "cut");
    net.settles().await;
    net.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_outlives_its_process_attaches_nothing_after_the_next_start() {
    let Some(net) = Net::set("a_plugin_that_outlives_its_process").await else {
        return;
    };
    let dir = net.dir("plugins");
    fs::create_dir_all(&dir).expect("a directory");
    let script = format!(
        "#!/bin/sh\necho $CNI_COMMAND >> {d}/begun\nsleep 3\necho $CNI_COMMAND >> {d}/late\nexec /usr/lib/cni/bridge\n",
        d = dir.display()
    );
    fs::write(dir.join("bridge"), script).expect("a file");
    fs::set_permissions(dir.join("bridge"), fs::Permissions::from_mode(0o755)).expect("a program");
    let ours = dir.to_str().expect("text");
    let mut args = vec!["--cni-plugin-dir", ours, "--cni-plugin-dir", "/usr/lib/cni"];
    args.extend(["run", "--network", &net.name, "busybox", "true"]);
    let running = fnctr(&net, &args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let running = running.expect("to start fnctr");
    until("begun", || dir.join("begun").exists()).await;
    kill(running);
    assert!(!entries(&net).is_empty());
    for id in listed(&net) {
        remove(&net, &id);
    }
    // When it would have gone on.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(fs::read_to_string(dir.join("begun")).expect("a log"), "ADD\n");
    assert!(!dir.join("late").exists());
    fs::remove_dir_all(&dir).expect("to remove them");
    net.settles().await;
    net.strike().await;
}

/// The command has no pool; the benchmark has.
async fn kill_with_a_pool(net: &Net, more: &[&str]) {
    let args = ["bench", "lifecycle", "--network", &net.name, "--pool", "3"];
    let running = fnctr(net, &[&args, more].concat())
        .args(["--rounds", "100000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let running = running.expect("to start fnctr");
    until("filled", || entries(net).len() >= 3).await;
    tokio::time::sleep(patient(Duration::from_millis(1500))).await;
    kill(running);
    let left = entries(net).len();
    assert!(left >= 3, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_whose_process_is_killed_is_gone_after_the_next_start() {
    let Some(net) = Net::set("a_pool_whose_process_is_killed").await else {
        return;
    };
    kill_with_a_pool(&net, &[]).await;
    for _ in 0..2 {
        for id in listed(&net) {
            remove(&net, &id);
        }
    }
    net.settles().await;
    net.strike_networks().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_are_the_containers_that_held_it() {
    let Some(net) = Net::set("so_are_the_containers_that_held_it").await else {
        return;
    };
    kill_with_a_pool(&net, &["--holder"]).await;
    let is_holder = |id: &str| !id.starts_with("bench-");
    let held = || records(&net).lines().filter(|id| is_holder(id)).count();
    assert!(held() >= 3, "{}", held());
    // The start itself removes them: nobody knows their names. A slot that a container lives in is kept for it.
    let mut living = listed(&net);
    living.retain(|id| !is_holder(id));
    assert!(held() <= living.len(), "{}, {living:?}", records(&net));
    for id in living {
        remove(&net, &id);
    }
    listed(&net);
    assert_eq!(held(), 0, "{}", records(&net));
    net.settles().await;
    net.strike_networks().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_that_is_dropped_gives_its_network_back() {
    let Some(net) = Net::set("a_handle_that_is_dropped").await else {
        return;
    };
    let running = run(&net.stage.driver, net.task(""), "sleep 1000", |_| {})
        .await
        .expect("a container");
    assert_eq!(net.addresses().len(), 1);
    drop(running);
    net.settles().await;
    // A container that was removed behind our back.
    let running = run(&net.stage.driver, net.task(""), "sleep 1000", |_| {})
        .await
        .expect("a container");
    remove(&net, &running.id);
    running.close().await;
    net.settles().await;
    net.strike().await;
}
