//! `fnctr network` from outside.

use serde_json::Value;

use super::host::said;
use super::recovery::fnctr;
use super::rig::Net;
use super::subnet::Subnet;

pub(super) fn told(net: &Net, args: &[&str]) -> (bool, String) {
    let done = fnctr(net, args).output().expect("to run fnctr");
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_created_used_shown_and_removed_with_its_bridge() {
    let Some(net) = Net::set("a_network_is_created").await else {
        return;
    };
    let name = format!("{}x", net.name);
    let taken = Subnet::take();
    let (subnet, half) = (
        format!("{}.0/24", taken.prefix()),
        format!("{}.128/25", taken.prefix()),
    );
    let (created, text) = told(
        &net,
        &["network", "create", &name, "--subnet", &subnet, "--bridge", &name],
    );
    assert!(created && text.contains(&subnet), "{text}");
    let (again, text) = told(&net, &["network", "create", &name]);
    assert!(!again && text.contains("exists already"), "{text}");
    let (overlaps, text) = told(&net, &["network", "create", "other", "--subnet", &half]);
    assert!(!overlaps && text.contains("already"), "{text}");

    let (started, text) = told(
        &net,
        &[
            "run",
            "--detach",
            "--name",
            "on-it",
            "--network",
            &name,
            "busybox",
            "sleep",
            "1000",
        ],
    );
    assert!(started, "{text}");
    let (_, text) = told(&net, &["--json", "network", "ls"]);
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let row = rows
        .iter()
        .find(|row| row["network"] == name.as_str())
        .expect("a row");
    assert_eq!(row["attached"], 1, "{row}");
    let (_, text) = told(&net, &["network", "inspect", &name]);
    let shown: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(shown["attached"][0]["container"], "on-it", "{shown}");
    let (_, listed) = told(&net, &["ps"]);
    assert!(listed.contains(&format!("{}.2", taken.prefix())), "{listed}");
    let (removed, text) = told(&net, &["network", "rm", &name]);
    assert!(
        !removed && text.contains("is in use by container on-it (namespace "),
        "{text}"
    );

    assert!(told(&net, &["rm", "--force", "on-it"]).0);
    let (removed, text) = told(&net, &["network", "rm", &name]);
    assert!(removed, "{text}");
    assert_eq!(said("ip", &["-o", "link", "show", &name]), "");
    // What somebody else has configured is not ours to remove, wherever it is.
    let (removed, text) = told(&net, &["network", "rm", &net.name]);
    assert!(!removed && text.contains("which fnctr does not change"), "{text}");
    let (unknown, text) = told(&net, &["network", "inspect", "nowhere"]);
    assert!(
        !unknown && text.contains("there is no network \"nowhere\""),
        "{text}"
    );
    // Words that make no sense together.
    for args in [
        vec!["run", "-p", "80:80", "--network", "host", "busybox", "true"],
        vec!["run", "-p", "80", "busybox", "true"],
        vec!["run", "--network", "container:", "busybox", "true"],
    ] {
        let (ran, text) = told(&net, &args);
        assert!(!ran && !text.is_empty(), "{args:?}: {text}");
    }
    // A port to which nobody would ever come, in words of the flag.
    let port = [
        "run",
        "-p",
        "[::1]:18082:80",
        "--network",
        &net.name,
        "busybox",
        "true",
    ];
    let (ran, text) = told(&net, &port);
    assert!(
        !ran && text.contains("port [::1]:18082:80/tcp cannot be published on network")
            && text.contains("has only IPv4 addresses; leave the IP out of --publish"),
        "{text}"
    );
    let (created, text) = told(&net, &["network", "create", &name, "--bridge", "a b"]);
    assert!(
        !created && text.contains("bridge name \"a b\" is not usable"),
        "{text}"
    );
    drop(std::fs::remove_dir_all(
        std::path::Path::new("/run/fnctr/addresses").join(&name),
    ));
    net.strike().await;
}
