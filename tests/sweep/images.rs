//! Loading an archive while calls break: no lease and no unfinished write is left, and the next load succeeds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fnctr::Context;
use fnctr::driver::{Driver, ErrorKind, Task};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::rig::{LONG, Rig, side_by_side};
use crate::ways::Way;

const NAME: &str = "docker.io/library/loaded:latest";

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, name, bytes).unwrap();
}

/// An image of two layers, as `docker save` writes it.
fn archive(dir: &Path) -> PathBuf {
    let layers = [("bin/true", "#!/bin/sh\n"), ("etc/motd", "loaded\n")].map(|(name, text)| {
        let mut layer = tar::Builder::new(Vec::new());
        append(&mut layer, name, 0o755, text.as_bytes());
        layer.into_inner().unwrap()
    });
    let digest = |bytes: &[u8]| format!("sha256:{:x}", Sha256::digest(bytes));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layers[0]), digest(&layers[1])]},
    });
    let manifest =
        json!([{"Config": "config.json", "RepoTags": ["loaded:latest"], "Layers": ["0.tar", "1.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "0.tar", 0o644, &layers[0]);
    append(&mut tar, "1.tar", 0o644, &layers[1]);
    append(&mut tar, "config.json", 0o644, config.to_string().as_bytes());
    append(&mut tar, "manifest.json", 0o644, manifest.to_string().as_bytes());
    let path = dir.join("loaded.tar");
    std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
    path
}

async fn load_well(rig: &Rig, file: &Path) {
    let ctx = Context::timeout(LONG);
    assert_eq!(rig.driver.load(&ctx, file).await.unwrap(), [NAME]);
    rig.assert_clean("a load").await;
    let task = Task {
        id: "c1".into(),
        image: "loaded".into(),
        disable_net: true,
        ..Task::default()
    };
    let cookie = rig
        .driver
        .create_cookie(&ctx, std::sync::Arc::new(task))
        .await
        .unwrap();
    assert!(
        !cookie.validate_image(&ctx).await.unwrap(),
        "it is there and whole"
    );
    cookie.close(&ctx).await.unwrap();
}

async fn calls_of_a_load(file: &Path) -> Vec<(String, usize)> {
    let rig = Rig::start().await;
    rig.fake.faults().reset();
    rig.driver.load(&Context::new(), file).await.unwrap();
    let all = rig.fake.calls().into_iter().chain(rig.fake.faults().streams());
    let mut seen = BTreeMap::new();
    let calls = all.filter(|call| !call.starts_with("Events/")).map(|call| {
        let nth = seen.entry(call.clone()).or_insert(0);
        *nth += 1;
        (call, *nth)
    });
    let calls = calls.collect();
    rig.end().await;
    calls
}

#[tokio::test]
async fn a_load_that_meets_a_broken_call_leaves_no_lease_and_the_next_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let file = archive(dir.path());
    let calls = calls_of_a_load(&file).await;
    for must in [
        "Content/Write",
        "Diff/Apply",
        "Images/Create",
        "Leases/Create",
        "Leases/Delete",
    ] {
        assert!(
            calls.iter().any(|(call, _)| call == must),
            "{must} is not in {calls:?}"
        );
    }
    for call in &calls {
        for way in Way::AT_ONCE {
            meet(&file, call, way).await;
        }
    }
    let hanging = calls.iter().cloned().map(|call| {
        let file = file.clone();
        async move { meet(&file, &call, Way::Hang).await }
    });
    side_by_side(hanging).await;
    println!(
        "covered: {} calls x {} ways: {calls:?}",
        calls.len(),
        Way::AT_ONCE.len() + 1
    );
}

/// One load with one broken call, and one after it.
async fn meet(file: &Path, (call, nth): &(String, usize), way: Way) {
    let what = format!("{call} ({nth}) broken by {way:?}");
    for limit in way.limits() {
        let rig = Rig::start().await;
        let ctx = Context::timeout(limit);
        rig.fake.faults().reset();
        rig.fake.faults().break_call(call, *nth, way.how(&ctx));
        match rig.driver.load(&ctx, file).await {
            Ok(names) => assert_eq!(names, [NAME], "{what}"),
            Err(error) => assert_eq!(error.kind(), way.kind(), "{what}: {error:?}"),
        }
        let met = rig.fake.faults().unmet() == 0;
        assert!(met || ctx.check().is_err(), "{what}: no call met it");
        rig.assert_clean(&what).await;
        rig.fake.faults().reset();
        load_well(&rig, file).await;
        rig.end().await;
        if met {
            return;
        }
    }
    panic!("{what}: no call met it");
}

#[tokio::test]
async fn a_load_that_is_dropped_at_any_of_its_calls_unwinds_on_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = archive(dir.path());
    for (call, nth) in calls_of_a_load(&file).await {
        let rig = Rig::start().await;
        let arrived = Context::new();
        rig.fake.faults().reset();
        rig.fake
            .faults()
            .break_call(&call, nth, Way::Cancel.how(&arrived));
        let ctx = Context::new();
        tokio::select! {
            biased;
            _ = arrived.done() => {}
            _ = rig.driver.load(&ctx, &file) => panic!("{call} never came"),
        }
        rig.until_clean(&format!("a load that was dropped at {call} ({nth})"))
            .await;
        load_well(&rig, &file).await;
        rig.end().await;
    }
}

#[tokio::test]
async fn a_damaged_archive_is_refused_and_nothing_of_it_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let file = archive(dir.path());
    let rig = Rig::start().await;
    let sound = std::fs::read(&file).unwrap();
    let at = sound.windows(6).position(|bytes| bytes == b"loaded").unwrap();
    let mut damaged = sound.clone();
    damaged[at] = b'L';
    for bytes in [&damaged[..], &sound[..sound.len() / 2]] {
        std::fs::write(&file, bytes).unwrap();
        let error = rig.driver.load(&Context::new(), &file).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ImageRejected, "{error:?}");
        rig.assert_clean("a damaged archive").await;
    }
    std::fs::write(&file, sound).unwrap();
    load_well(&rig, &file).await;
    rig.end().await;
}
