//! What processes leave that are killed in the middle of a load or a pull: freed by the next removal, which says so truly.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use fnctr::Context;
use fnctr::driver::ErrorKind;
use serde_json::Value;
use tokio::time::Instant;

use crate::cli::{fnctr, run};
use crate::proxy::Fate;
use crate::registry::{Image, Packed, digest};
use crate::rig::{Rig, ctx};

const SIZE: usize = 48 << 20;

/// The bytes of all files below a directory, as they occupy the disk.
fn bytes(dir: &Path) -> u64 {
    let inside = fs::read_dir(dir).into_iter().flatten().flatten();
    inside
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes(&entry.path()),
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

fn content(rig: &Rig) -> PathBuf {
    rig.real.dir().join("root/io.containerd.content.v1.content")
}

fn snapshots(rig: &Rig) -> PathBuf {
    rig.real
        .dir()
        .join("root/io.containerd.snapshotter.v1.overlayfs/snapshots")
}

/// What lies in the content store and in snapshots.
fn on_disk(rig: &Rig) -> u64 {
    bytes(&content(rig)) + bytes(&snapshots(rig))
}

fn begin(rig: &Rig, args: &[&str]) -> Child {
    fnctr(rig, args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("to run fnctr")
}

/// Kills a process as soon as something is so.
async fn kill_when(mut child: Child, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(180);
    while !is_so() {
        assert!(Instant::now() < until, "it never came so far");
        if let Some(status) = child.try_wait().expect("to look at it") {
            panic!("it ended before it was killed: {status}");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    child.kill().expect("to kill it");
    child.wait().expect("to wait for it");
}

/// Waits until containerd has noticed that its client is gone, and the disk stays as it is.
async fn settled(rig: &Rig) -> u64 {
    let mut before = on_disk(rig);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = on_disk(rig);
        if now == before {
            return now;
        }
        before = now;
    }
}

fn prune(rig: &Rig) -> Value {
    let (code, out, err) = run(rig, &["--json", "image", "prune", "--all", "--force"]);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).expect("JSON")
}

/// What is said to be freed is what is gone from the disk, up to what directories and manifests occupy.
#[track_caller]
fn is_true(said: u64, before: u64, after: u64, what: &str) {
    let really = before - after;
    println!("{what}: said {said}, measured {really}");
    assert!(
        said.abs_diff(really) < 1 << 20,
        "{what}: said {said}, freed {really}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn three_killed_loads_cost_nothing_after_a_prune_and_the_next_load_succeeds() {
    let Some(rig) = Rig::set("three_killed_loads").await else {
        return;
    };
    let image = Image::busybox(Packed::OciPlain, "load", &[SIZE]);
    rig.registry.push("load", "1", &image);
    let name = rig.name("load:1");
    rig.pull(&name).await.expect("to pull");
    let archive = rig.real.dir().join("load.tar").display().to_string();
    let (code, _, err) = run(&rig, &["save", "--output", &archive, &name]);
    assert_eq!(code, 0, "{err}");
    rig.remove(&name);
    let empty = settled(&rig).await;
    let (ingests, unpacked) = (content(&rig).join("ingest"), snapshots(&rig));
    // Early and late in the archive, and while it is unpacked.
    kill_when(begin(&rig, &["load", &archive]), || bytes(&ingests) > 4 << 20).await;
    kill_when(begin(&rig, &["load", &archive]), || bytes(&ingests) > 30 << 20).await;
    kill_when(begin(&rig, &["load", &archive]), || bytes(&unpacked) > 8 << 20).await;
    let before = settled(&rig).await;
    assert!(
        before > empty + (16 << 20),
        "something was left: {empty}, {before}"
    );
    let said = prune(&rig);
    let after = settled(&rig).await;
    is_true(
        said["freed"].as_u64().expect("a number"),
        before,
        after,
        "a prune after killed loads",
    );
    assert!(after <= empty + (1 << 20), "left: {empty}, {after}");
    assert_eq!(said["kept"], Value::Null);
    assert_eq!(rig.world().leases.len(), 0);
    let (code, out, err) = run(&rig, &["load", &archive]);
    assert_eq!(
        (code, out.trim()),
        (0, format!("loaded {name}").as_str()),
        "{err}"
    );
    // Killed once more with the image here: what a removal says is true from the start.
    kill_when(begin(&rig, &["load", &archive]), || rig.world().leases.len() == 1).await;
    let before = settled(&rig).await;
    let (code, out, err) = run(&rig, &["--json", "rmi", &name]);
    assert_eq!(code, 0, "{err}");
    let said: Value = serde_json::from_str(&out).expect("JSON");
    let after = settled(&rig).await;
    is_true(
        said["freed"].as_u64().expect("a number"),
        before,
        after,
        "a removal after a killed load",
    );
    assert!(after <= empty + (1 << 20), "left: {empty}, {after}");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_killed_pulls_cost_nothing_after_a_removal_and_after_a_prune() {
    let Some(rig) = Rig::set("three_killed_pulls").await else {
        return;
    };
    let small = Image::busybox(Packed::OciPlain, "pull", &[8 << 20]);
    let mut large = small.clone();
    large.layers.extend(
        Image::busybox(Packed::OciPlain, "large", &[SIZE])
            .layers
            .into_iter()
            .skip(1),
    );
    rig.registry.push("small", "1", &small);
    rig.registry.push("large", "1", &large);
    let (small, name) = (rig.name("small:1"), rig.name("large:1"));
    let blob = digest(&large.blobs().pop().expect("a layer").0);
    let empty = on_disk(&rig);
    rig.pull(&small).await.expect("to pull");
    let ingests = content(&rig).join("ingest");
    let killed = async || {
        let wanted = blob.clone();
        rig.proxy.plan(move |seen| match seen.is_blob(&wanted) {
            true => Fate::Stall(30 << 20, Duration::from_secs(60)),
            false => Fate::Pass,
        });
        for at in [4 << 20, 12 << 20, 20 << 20] {
            kill_when(begin(&rig, &["pull", &name]), || bytes(&ingests) > at).await;
        }
        rig.proxy.reset();
        settled(&rig).await
    };
    // The killed pulls hold the layers of the image that is removed.
    let before = killed().await;
    let (code, out, err) = run(&rig, &["--json", "rmi", &small]);
    assert_eq!(code, 0, "{err}");
    let said: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(said["kept"], Value::Null);
    assert!(
        said["freed"].as_u64().expect("a number") > 16 << 20,
        "blob and snapshot: {said}"
    );
    let after = settled(&rig).await;
    assert!(before - after > 32 << 20, "{before}, {after}");
    assert!(after <= empty + (1 << 20), "left: {empty}, {after}");
    let before = killed().await;
    let said = prune(&rig);
    let after = settled(&rig).await;
    is_true(
        said["freed"].as_u64().expect("a number"),
        before,
        after,
        "a prune after killed pulls",
    );
    assert!(after <= empty + (1 << 20), "left: {empty}, {after}");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_living_pull_holds_is_not_freed_and_the_removal_names_it() {
    let Some(rig) = Rig::set("what_a_living_pull_holds").await else {
        return;
    };
    let small = Image::busybox(Packed::OciPlain, "held", &[8 << 20]);
    let mut large = small.clone();
    large.layers.extend(
        Image::busybox(Packed::OciPlain, "holds", &[SIZE])
            .layers
            .into_iter()
            .skip(1),
    );
    rig.registry.push("small", "1", &small);
    rig.registry.push("large", "1", &large);
    let (small, name) = (rig.name("small:1"), rig.name("large:1"));
    let empty = rig.world();
    rig.pull(&small).await.expect("to pull");
    let blob = digest(&large.blobs().pop().expect("a layer").0);
    rig.proxy.plan(move |seen| match seen.is_blob(&blob) {
        true => Fate::Slow(Duration::from_millis(300)),
        false => Fate::Pass,
    });
    let cookie = rig.cookie(&name).await;
    assert!(cookie.validate_image(&ctx()).await.expect("to validate"));
    let leaves = Context::new();
    let (pulled, ()) = tokio::join!(cookie.pull_image(&leaves), async {
        let ingests = content(&rig).join("ingest");
        let until = Instant::now() + Duration::from_secs(180);
        // More than a document: a layer is on its way, and those below it are held.
        while bytes(&ingests) < 1 << 18 {
            assert!(Instant::now() < until, "it never began");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (code, out, err) = run(&rig, &["--json", "rmi", &small]);
        assert_eq!(code, 0, "{err}");
        let said: Value = serde_json::from_str(&out).expect("JSON");
        // The manifest that it holds keeps the layers below its own.
        assert!(said["freed"].as_u64().expect("a number") < 1 << 20, "{said}");
        assert!(
            said["kept"]["bytes"].as_u64().expect("a number") > 16 << 20,
            "{said}"
        );
        let by = format!("the pull of {name} by process {}", std::process::id());
        assert_eq!(said["kept"]["by"], serde_json::json!([by]));
        leaves.cancel();
    });
    let left = pulled.expect_err("interrupted");
    assert_eq!(left.kind(), ErrorKind::Cancelled, "{left:?}");
    cookie.close(&ctx()).await.expect("to close");
    rig.proxy.reset();
    // It unwinds by itself, and then nothing keeps them.
    rig.settles(&empty, "a pull that was interrupted");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_from_standard_input_that_is_killed_leaves_no_archive_behind() {
    let Some(rig) = Rig::set("a_load_from_standard_input").await else {
        return;
    };
    let spool = tempfile::tempdir().expect("a directory");
    let mut child = fnctr(&rig, &["load", "-"])
        .env("TMPDIR", spool.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("to run fnctr");
    let mut input = child.stdin.take().expect("a pipe");
    // More than a pipe takes, so some of it is spooled by now.
    std::io::Write::write_all(&mut input, &vec![7; 8 << 20]).expect("to be read");
    child.kill().expect("to kill it");
    child.wait().expect("to wait for it");
    assert!(bytes(spool.path()) < 64 << 10, "{} bytes", bytes(spool.path()));
    // Where it does not end so, it leaves nothing at all.
    let (code, _, err) = {
        let done = fnctr(&rig, &["load", "-"])
            .env("TMPDIR", spool.path().join(".."))
            .stdin(Stdio::from(fs::File::open("/bin/busybox").expect("a file")))
            .output()
            .expect("to run fnctr");
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code(), done.stdout, err)
    };
    assert!(
        code == Some(1) && err.contains("standard input is not an image archive"),
        "{err}"
    );
    rig.strike().await;
}
