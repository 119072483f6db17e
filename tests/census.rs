//! The census sees what it is there to see: a leak that it misses would pass every other test.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "support/census.rs"]
mod census;
#[path = "support/image.rs"]
mod image;
#[path = "support/patience.rs"]
mod patience;
#[path = "support/real.rs"]
mod real;

use std::path::Path;
use std::process::Command;

use census::{Census, Kind};
use real::Real;

/// `ctr`, which comes with containerd and shares nothing with this project.
#[track_caller]
fn ctr(real: &Real, args: &[&str]) {
    let done = Command::new("ctr")
        .arg("--address")
        .arg(real.address())
        .args(["--namespace", real.namespace()])
        .args(args)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "ctr {args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test]
async fn a_running_container_shows_up_everywhere_and_a_removed_one_nowhere() {
    let Some(real) = Real::start("census: a container of ctr") else {
        return;
    };
    let tar = image::busybox(real.dir());
    ctr(&real, &["images", "import", tar.to_str().unwrap()]);
    let before = Census::take(&real.address(), real.namespace(), &[real.dir()]).await;
    before.assert_same().await;

    let image = "docker.io/library/busybox:latest";
    ctr(&real, &["run", "--detach", image, "c1", "sleep", "1000"]);
    let kinds: Vec<_> = before
        .changes_now()
        .await
        .iter()
        .map(|change| change.kind)
        .collect();
    for kind in [
        Kind::Container,
        Kind::Task,
        Kind::Snapshot,
        Kind::Shim,
        Kind::Mount,
        Kind::Cgroup,
        Kind::File,
    ] {
        assert!(kinds.contains(&kind), "{kind:?} is missing in {kinds:?}");
    }
    assert_eq!(real::shims(&real.address()).len(), 1);

    ctr(&real, &["tasks", "kill", "--signal", "SIGKILL", "c1"]);
    let gone = ["tasks", "delete", "--force", "c1"];
    ctr(&real, &gone);
    ctr(&real, &["containers", "delete", "c1"]);
    before.assert_same().await;
}

#[tokio::test]
async fn a_mount_of_the_tests_own_is_counted_and_a_network_namespace_of_somebody_else_is_not() {
    let Some(real) = Real::start("census: a foreign network namespace") else {
        return;
    };
    let before = Census::take(&real.address(), real.namespace(), &[real.dir()]).await;
    let name = format!("census{}", std::process::id());
    let ip = |verb: &str| {
        let done = Command::new("ip").args(["netns", verb, &name]).status().unwrap();
        assert!(done.success(), "ip netns {verb}: {done}");
    };
    ip("add");
    let foreign = before.changes_now().await;
    ip("del");
    assert_eq!(foreign, []);

    let own = real.dir().join("pin");
    std::fs::write(&own, "").unwrap();
    let none = None::<&str>;
    nix::mount::mount(
        Some("/proc/self/ns/net"),
        &own,
        none,
        nix::mount::MsFlags::MS_BIND,
        none,
    )
    .unwrap();
    let counted = before.changes_now().await;
    nix::mount::umount(&own).unwrap();
    assert!(
        counted.iter().any(|change| change.kind == Kind::Mount),
        "{counted:?}"
    );
}

#[tokio::test]
async fn a_lease_and_an_image_are_counted() {
    let Some(real) = Real::start("census: a lease and an image") else {
        return;
    };
    let before = Census::take(&real.address(), real.namespace(), &[]).await;
    ctr(&real, &["leases", "create", "--id", "l1"]);
    let tar = image::build(
        real.dir(),
        "i.tar",
        &["--format", "oci", "--zstd", "--name", "example.com/a:1"],
    );
    ctr(&real, &["images", "import", tar.to_str().unwrap()]);
    let changes = before.changes_now().await;
    let has = |kind, name: &str| {
        changes
            .iter()
            .any(|c| c.kind == kind && c.name == name && c.by == 1)
    };
    assert!(has(Kind::Lease, "l1"), "{changes:?}");
    assert!(has(Kind::Image, "example.com/a:1"), "{changes:?}");
}

#[tokio::test]
async fn a_containerd_that_crashed_is_started_again_in_the_same_place() {
    let Some(mut real) = Real::start("real: crash and restart") else {
        return;
    };
    ctr(&real, &["leases", "create", "--id", "l1"]);
    let before = Census::take(&real.address(), real.namespace(), &[]).await;
    real.crash();
    real.restart();
    before.assert_same().await;
}

#[test]
fn the_same_arguments_give_the_same_image() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--format", "both", "--env", "A=1", "--volume", "/data"];
    let read = |path: &Path| std::fs::read(path).unwrap();
    let first = read(&image::build(dir.path(), "1.tar", &options));
    let second = read(&image::build(dir.path(), "2.tar", &options));
    assert!(first == second, "two images of the same arguments differ");
}
