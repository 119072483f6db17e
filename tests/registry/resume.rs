//! An interrupted transfer goes on where it stopped: after a cut, in the next pull, in the next process.

use std::process::{Command, Stdio};
use std::time::Duration;

use fnctr::Context;

use crate::patience::patient;
use crate::proxy::Fate;
use crate::registry::{Image, Packed, digest};
use crate::rig::{Rig, ctx};

const SIZE: usize = 32 << 20;

/// An image with one large layer, the digest of that, and how many bytes its blob has.
fn large(rig: &Rig, salt: &str) -> (String, String, u64) {
    let image = Image::busybox(Packed::OciPlain, salt, &[SIZE]);
    rig.registry.push("large", salt, &image);
    let (blob, _) = image.blobs().pop().expect("a layer");
    (
        rig.name(&format!("large:{salt}")),
        digest(&blob),
        blob.len() as u64,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_costs_little_more_than_what_is_missing() {
    let Some(rig) = Rig::set("a_cut_costs_little_more").await else {
        return;
    };
    let (name, blob, size) = large(&rig, "cut");
    let wanted = blob.clone();
    let at = usize::try_from(size * 9 / 10).expect("a size");
    rig.proxy
        .break_next(1, move |seen| seen.is_blob(&wanted), Fate::Cut(at));
    rig.pull(&name).await.expect("to pull");
    let asked: Vec<u64> = rig
        .proxy
        .seen()
        .iter()
        .filter(|seen| seen.is_blob(&blob))
        .map(crate::proxy::Seen::from)
        .collect();
    assert_eq!(asked, [0, at as u64], "not a byte is fetched twice");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_cuts_are_survived_as_long_as_there_is_progress() {
    let Some(rig) = Rig::set("many_cuts_are_survived").await else {
        return;
    };
    let (name, blob, size) = large(&rig, "cuts");
    let wanted = blob.clone();
    rig.proxy.break_next(
        usize::MAX,
        move |seen| seen.is_blob(&wanted),
        Fate::Cut(1_500_000),
    );
    rig.pull(&name).await.expect("to pull");
    let asked = rig.proxy.seen().iter().filter(|seen| seen.is_blob(&blob)).count();
    assert_eq!(asked as u64, size.div_ceil(1_500_000));
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_is_read_from_the_start_and_nothing_is_written_twice() {
    let Some(rig) = Rig::set("a_server_without_ranges").await else {
        return;
    };
    let (name, blob, _) = large(&rig, "whole");
    let mut times = 0;
    rig.proxy.plan(move |seen| {
        if !seen.is_blob(&blob) {
            return Fate::Pass;
        }
        times += 1;
        if times == 1 {
            Fate::Cut(3_300_000)
        } else {
            Fate::Whole
        }
    });
    rig.pull(&name).await.expect("to pull");
    assert_eq!(rig.cat(&name, "/etc/salt").await, "whole");
    rig.strike().await;
}

/// Waits until so much of a blob was sent and is with containerd, but for what is gathered for one write, a megabyte.
async fn arrived(rig: &Rig, bytes: u64) {
    let until = tokio::time::Instant::now() + patient(Duration::from_secs(120));
    while rig.proxy.sent() < bytes {
        let sent = rig.proxy.sent();
        assert!(tokio::time::Instant::now() < until, "{sent} of {bytes} were sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ingests = rig
        .real
        .dir()
        .join("root/io.containerd.content.v1.content/ingest");
    let written = || {
        let each = std::fs::read_dir(&ingests).into_iter().flatten().flatten();
        let sizes = each.filter_map(|one| Some(std::fs::metadata(one.path().join("data")).ok()?.len()));
        sizes.max().unwrap_or_default()
    };
    while written() + (1 << 20) < bytes {
        let written = written();
        assert!(
            tokio::time::Instant::now() < until,
            "{written} of {bytes} were written"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pull_goes_on_where_the_last_one_gave_up() {
    let Some(rig) = Rig::set("the_next_pull_goes_on").await else {
        return;
    };
    let (name, blob, size) = large(&rig, "next");
    let at = usize::try_from(size * 9 / 10).expect("a size");
    let wanted = blob.clone();
    rig.proxy.plan(move |seen| match seen.is_blob(&wanted) {
        true if seen.from() == 0 => Fate::Stall(at, Duration::from_secs(60)),
        true => Fate::Stall(0, Duration::from_secs(60)),
        false => Fate::Pass,
    });
    let cookie = rig.cookie(&name).await;
    assert!(cookie.validate_image(&ctx()).await.expect("to validate"));
    // Everybody leaves when nothing more comes.
    let leaves = Context::new();
    let leave = async {
        arrived(&rig, at as u64).await;
        leaves.cancel();
    };
    let (left, ()) = tokio::join!(cookie.pull_image(&leaves), leave);
    left.expect_err("interrupted");
    cookie.close(&ctx()).await.expect("to close");
    rig.proxy.reset();
    rig.pull(&name).await.expect("to pull");
    let sent = rig.proxy.sent();
    assert!(
        sent * 100 <= size * 15,
        "{sent} of {size} bytes were fetched again"
    );
    // What was kept for it has ended with the pull that went on with it.
    let leases = rig.world().leases;
    assert!(leases.is_empty(), "{leases:?}");
    assert_eq!(rig.cat(&name, "/etc/salt").await, "next");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_leaves_its_bytes_to_the_next() {
    let Some(rig) = Rig::set("a_process_that_is_killed").await else {
        return;
    };
    let (name, blob, size) = large(&rig, "killed");
    let at = usize::try_from(size * 9 / 10).expect("a size");
    let wanted = blob.clone();
    rig.proxy.break_next(
        1,
        move |seen| seen.is_blob(&wanted),
        Fate::Stall(at, Duration::from_secs(60)),
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_fnctr"))
        .arg("--address")
        .arg(rig.real.address())
        .args(["--namespace", rig.real.namespace(), "pull", &name])
        .arg("--root")
        .arg(rig.real.dir().join("cli"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("to run fnctr");
    arrived(&rig, at as u64).await;
    child.kill().expect("to kill it");
    child.wait().expect("to wait for it");
    rig.proxy.reset();
    rig.pull(&name).await.expect("to pull");
    let sent = rig.proxy.sent();
    assert!(
        sent * 100 <= size * 15,
        "{sent} of {size} bytes were fetched again"
    );
    // Its lease has ended with the pull that went on with it.
    let leases = rig.world().leases;
    assert!(leases.is_empty(), "{leases:?}");
    assert_eq!(rig.cat(&name, "/etc/salt").await, "killed");
    rig.strike().await;
}
