//! Memory that is taken back from a frozen container: measured by the kernel, and fetched again after the thaw.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fnctr::driver::{Driver as _, Task};
use fnctr::{ContainerOptions, ContainerdDriver, Namespace, Settings};
use rustix::fs::Advice;
use serde_json::Value;
use tokio::time::Instant;

use crate::kernel::kernel;
use crate::world::{Stage, config, ctx, networks};

/// How much the container reads. Page cache belongs to whoever read it first.
const FILE: u64 = 32 << 20;

/// Whether memory is in the v2 tree here, and the kernel offers to take it back (Linux 5.19).
fn offered() -> bool {
    let listed = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    listed.split_whitespace().any(|name| name == "memory") && kernel() >= (5, 19)
}

/// A directory whose files have a disk behind them: pages of a tmpfs could only go to swap.
fn on_disk(stage: &Stage) -> Option<PathBuf> {
    // ext2 to ext4, XFS, btrfs (statfs(2)).
    const DISKS: [i64; 3] = [0xef53, 0x5846_5342, 0x9123_683e];
    let named = std::env::var_os("FNCTR_TEST_XFS").map(PathBuf::from);
    let places = named
        .into_iter()
        .chain([stage.real.dir().to_owned(), "/var/tmp".into()]);
    let disk = |dir: &PathBuf| rustix::fs::statfs(dir).is_ok_and(|fs| DISKS.contains(&fs.f_type));
    let Some(place) = places.into_iter().find(disk) else {
        crate::real::tell(
            "!!! SKIPPED the page cache of a container: no directory here has a disk behind it",
        );
        return None;
    };
    let dir = place.join(format!("fnctr-reclaim-{}", stage.real.namespace()));
    fs::create_dir(&dir).expect("a directory");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("a mode");
    let mut file = File::create(dir.join("big")).expect("a file");
    let block = vec![7; 1 << 20];
    for _ in 0..FILE >> 20 {
        file.write_all(&block).expect("to write");
    }
    file.sync_all().expect("to write it out");
    // So that it is the container that reads it in.
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).expect("to drop it");
    Some(dir)
}

/// Reads the file, says so, and counts from then on.
const SCRIPT: &str = "cat /data/big >/dev/null && echo read >/data/ready
    i=0; while :; do i=$((i+1)); echo $i >/data/count; sleep 0.1; done";

fn task(stage: &Stage, dir: &Path) -> Task {
    Task {
        volumes: vec![(dir.to_owned(), "/data".into())],
        ..stage.task("")
    }
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn count(dir: &Path) -> u64 {
    let text = fs::read_to_string(dir.join("count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// `memory.current` of a container whose cgroup parent is the root.
fn current(stage: &Stage, id: &str) -> u64 {
    let dir = Path::new("/sys/fs/cgroup").join(stage.real.namespace()).join(id);
    let text = fs::read_to_string(dir.join("memory.current")).expect("the cgroup of the container");
    text.trim().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_idles_gives_its_page_cache_back_and_works_on_after_the_thaw() {
    let Some(stage) = Stage::set("a_container_that_idles_gives_its_page_cache_back").await else {
        return;
    };
    if !offered() {
        crate::real::tell("!!! SKIPPED taking memory back: this host has no memory.reclaim");
        return stage.strike().await;
    }
    let Some(dir) = on_disk(&stage) else {
        return stage.strike().await;
    };
    let settings = Settings {
        namespace: Some(Namespace::new(stage.real.namespace()).expect("a namespace")),
        run_dir: stage.real.dir().join("run"),
        cgroup_parent: "/".to_owned(),
        reclaim_after: Some(Duration::from_secs(2)),
        networks: networks(&stage.real),
        ..Settings::default()
    };
    let driver = ContainerdDriver::connect(&ctx(), config(&stage.real), settings)
        .await
        .expect("a driver");
    let task = task(&stage, &dir);
    let id = task.id.clone();
    let cookie = driver
        .create_cookie(&ctx(), Arc::new(task))
        .await
        .expect("a cookie");
    let command = ["/bin/sh", "-c", SCRIPT].map(str::to_owned).to_vec();
    cookie
        .change_options(|options: &mut ContainerOptions| options.config.command = Some(command))
        .expect("another command");
    cookie.validate_image(&ctx()).await.expect("an image");
    cookie.create_container(&ctx()).await.expect("a container");
    cookie.run(&ctx()).await.expect("a start");
    eventually("the file was read", || dir.join("ready").exists());
    let before = current(&stage, &id);
    assert!(
        before > FILE,
        "the file's pages are not the container's: {before}"
    );

    // Thawed before the delay has passed: nothing is taken.
    cookie.freeze(&ctx()).await.expect("to freeze");
    tokio::time::sleep(Duration::from_millis(200)).await;
    cookie.unfreeze(&ctx()).await.expect("to thaw");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let kept = current(&stage, &id);
    assert!(
        kept > FILE,
        "memory was taken from a running container: {before}, then {kept}"
    );

    cookie.freeze(&ctx()).await.expect("to freeze");
    eventually("most of the file's pages are back", || {
        current(&stage, &id) + FILE * 3 / 4 < before
    });
    eprintln!("memory.current fell from {before} to {}", current(&stage, &id));
    let stood = count(&dir);
    cookie.unfreeze(&ctx()).await.expect("to thaw");
    eventually("it counts on", || count(&dir) > stood);
    cookie.close(&ctx()).await.expect("to close");
    driver.close(&ctx()).await.expect("the driver to close");
    fs::remove_dir_all(dir).expect("to clean up");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn freeze_reclaim_says_how_much_came_back_or_that_this_host_cannot() {
    let Some(stage) = Stage::set("freeze_reclaim_says_how_much_came_back").await else {
        return;
    };
    let fnctr = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fnctr"));
        command.arg("--address").arg(stage.real.address());
        command.args([
            "--json",
            "--namespace",
            stage.real.namespace(),
            "--cgroup-parent",
            "/",
        ]);
        command.arg("--root").arg(stage.real.dir().join("cli")).args(args);
        command.output().expect("to run fnctr")
    };
    let json = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).expect("JSON") };
    let dir = if offered() {
        on_disk(&stage)
    } else {
        Some(stage.real.dir().join("data"))
    };
    let Some(dir) = dir else {
        return stage.strike().await;
    };
    if !offered() {
        fs::create_dir(&dir).expect("a directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("a mode");
        fs::write(dir.join("big"), "small").expect("a file");
    }
    let volume = format!("{}:/data", dir.display());
    let run = [
        "run", "--detach", "--name", "d1", "--memory", "64m", "--volume", &volume, "busybox", "sh", "-c",
        SCRIPT,
    ];
    assert!(fnctr(&run).status.success());
    eventually("the file was read", || dir.join("ready").exists());
    let frozen = fnctr(&["freeze", "--reclaim", "d1"]);
    let said = json(&frozen.stdout);
    let state = || json(&fnctr(&["ps"]).stdout)["state"].clone();
    if offered() {
        assert!(frozen.status.success(), "{said}");
        let bytes = said["reclaimed"].as_u64().expect("a number of bytes");
        assert!(bytes > FILE * 3 / 4, "{said}");
        assert_eq!(state(), "frozen");
        let stood = count(&dir);
        assert!(fnctr(&["thaw", "d1"]).status.success());
        eventually("it counts on", || count(&dir) > stood);
    } else {
        assert_eq!(frozen.status.code(), Some(1));
        assert_eq!(said["kind"], "unsupported", "{said}");
        let error = said["error"].as_str().expect("a sentence");
        assert!(
            error.contains("memory.reclaim") && error.contains("Linux 5.19"),
            "{error}"
        );
        // What cannot be done whole is not begun.
        assert_eq!(state(), "running");
        assert!(
            fnctr(&["freeze", "d1"]).status.success(),
            "without it all is well"
        );
    }
    assert!(fnctr(&["rm", "--force", "d1"]).status.success());
    fs::remove_dir_all(dir).expect("to clean up");
    stage.strike().await;
}
