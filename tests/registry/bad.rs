//! Images that are wrong in themselves: each is refused with a sentence that names it, and leaves nothing.

use fnctr::driver::ErrorKind;
use serde_json::json;

use crate::proxy::Fate;
use crate::real::Real;
use crate::registry::{DOCKER_LIST, Image, OCI_INDEX, OCI_MANIFEST, Packed, available, digest, tar_of};
use crate::rig::{Rig, World, pull};

#[track_caller]
fn refused(rig: &Rig, before: &World, name: &str, why: &fnctr::driver::Error, sentence: &str) {
    let report = why.report();
    assert!(
        report.starts_with(&format!("Failed to pull image '{name}': ")),
        "{report}"
    );
    assert!(report.contains(sentence), "{sentence}: {report}");
    assert!(why.is_user_error());
    assert_eq!(
        (why.code(), why.kind()),
        (502, ErrorKind::ImageRejected),
        "{report}"
    );
    rig.settles(before, sentence);
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_cannot_be_are_refused() {
    let Some(rig) = Rig::set("manifests_that_cannot_be").await else {
        return;
    };
    let before = rig.world();
    let image = Image::busybox(Packed::OciGzip, "bad", &[]);
    let good = image.manifest(|bytes| {
        rig.registry.push_blob("bad", bytes);
    });
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        serde_json::to_vec(&manifest).expect("JSON")
    };
    let huge = json!({"schemaVersion": 2, "x": "x".repeat(5 << 20)});
    let other = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": digest(b"1"), "size": 1, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
        {"mediaType": OCI_MANIFEST, "digest": digest(b"2"), "size": 1, "platform": {"os": "windows", "architecture": "amd64"}},
        {"mediaType": OCI_MANIFEST, "digest": digest(b"3"), "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]});
    let bytes = |value: &serde_json::Value| serde_json::to_vec(value).expect("JSON");
    let (digest_of_config, size) = (&good["config"]["digest"], &good["config"]["size"]);
    let digest_of_config = digest_of_config.as_str().expect("a digest");
    let lies = format!(
        "its manifest lists configuration {digest_of_config} with 7 bytes, but the content has {size}"
    );
    let schema_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for (kind, body, sentence) in [
        (
            schema_1,
            br#"{"schemaVersion": 1, "name": "bad"}"#.to_vec(),
            "of Docker's schema 1",
        ),
        (
            "application/json",
            br#"{"schemaVersion": 1}"#.to_vec(),
            "of Docker's schema 1",
        ),
        (OCI_MANIFEST, bytes(&huge), "larger than the 4194304"),
        (OCI_INDEX, bytes(&other), "only for linux/arm/v7, windows/amd64"),
        (
            DOCKER_LIST,
            bytes(&json!({"schemaVersion": 2, "manifests": []})),
            "only for no platform at all",
        ),
        (
            OCI_MANIFEST,
            b"not JSON".to_vec(),
            "its manifest cannot be parsed",
        ),
        (
            OCI_MANIFEST,
            with(&|m| m["layers"] = json!([])),
            "it has no layers",
        ),
        (
            OCI_MANIFEST,
            with(&|m| m["manifests"] = json!([])),
            "claims to be an index too",
        ),
        (
            OCI_INDEX,
            with(&|m| m["mediaType"] = json!(OCI_MANIFEST)),
            "and was sent as",
        ),
        (
            OCI_MANIFEST,
            with(&|m| m["layers"][0]["digest"] = json!("sha256:XYZ")),
            "digest",
        ),
        (
            OCI_MANIFEST,
            with(&|m| {
                m["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+encrypted")
            }),
            "which cannot be unpacked",
        ),
        (
            OCI_MANIFEST,
            with(&|m| m["config"]["size"] = json!(5 << 20)),
            "its configuration of 5242880 bytes",
        ),
        (
            OCI_MANIFEST,
            with(&|m| m["layers"][0]["size"] = json!(7)),
            "where the manifest says 7",
        ),
        (
            OCI_MANIFEST,
            with(&|m| m["config"]["size"] = json!(7)),
            lies.as_str(),
        ),
        ("text/html", b"{}".to_vec(), "its manifest"),
    ] {
        let kind = kind.to_owned();
        let shown = String::from_utf8_lossy(&body)
            .chars()
            .take(100)
            .collect::<String>();
        rig.proxy.plan(move |seen| {
            if seen.path.contains("/manifests/") {
                let headers = vec![
                    ("content-type".to_owned(), kind.clone()),
                    ("docker-content-digest".to_owned(), digest(&body)),
                ];
                return Fate::Answer("200 OK".to_owned(), headers, body.clone());
            }
            Fate::Pass
        });
        let name = rig.name("bad:1");
        let why = rig.pull(&name).await.expect_err(&shown);
        refused(&rig, &before, &name, &why, sentence);
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_lies_about_the_size_of_a_manifest_says_both_sizes() {
    let Some(rig) = Rig::set("an_index_that_lies").await else {
        return;
    };
    let before = rig.world();
    let image = Image::busybox(Packed::OciGzip, "index", &[]);
    let digest = rig.registry.push_with("sizes", None, &image);
    let size = serde_json::to_vec(&image.manifest(|_| {})).expect("JSON").len();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": digest, "size": size + 1, "platform": {"os": "linux", "architecture": crate::registry::architecture()}}]});
    rig.registry.push_manifest("sizes", Some("1"), OCI_INDEX, &index);
    let name = rig.name("sizes:1");
    let why = rig.pull(&name).await.expect_err("it lies");
    let sentence = format!(
        "its index lists manifest {digest} with {} bytes, but the content has {size}",
        size + 1
    );
    refused(&rig, &before, &name, &why, &sentence);
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_for_other_machines_say_which() {
    let Some(rig) = Rig::set("images_for_other_machines").await else {
        return;
    };
    let before = rig.world();
    rig.registry.push(
        "other",
        "1",
        &Image::busybox(Packed::Docker, "other", &[]).of("linux", "arm", Some("v7")),
    );
    let name = rig.name("other:1");
    let why = rig.pull(&name).await.expect_err("not for this machine");
    refused(&rig, &before, &name, &why, "only for linux/arm/v7");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_lie_or_break_out_are_refused_or_harmless() {
    let Some(rig) = Rig::set("layers_that_lie_or_break_out").await else {
        return;
    };
    let before = rig.world();
    // What it unpacks to is not what the configuration says.
    let mut lying = Image::busybox(Packed::OciGzip, "lying", &[]);
    let truth = lying.blobs();
    lying.layers[0].extend_from_slice(&[0; 512]);
    let mut manifest = lying.manifest(|bytes| {
        rig.registry.push_blob("lying", bytes);
    });
    rig.registry.push_blob("lying", &truth[0].0);
    manifest["layers"][0]["digest"] = json!(digest(&truth[0].0));
    manifest["layers"][0]["size"] = json!(truth[0].0.len());
    rig.registry
        .push_manifest("lying", Some("1"), OCI_MANIFEST, &manifest);
    let name = rig.name("lying:1");
    let why = rig.pull(&name).await.expect_err("it lies");
    refused(&rig, &before, &name, &why, "is corrupt: layer");
    // Nothing, under the digest of something.
    let mut empty = Image::busybox(Packed::OciPlain, "empty", &[]);
    let mut manifest = empty.manifest(|bytes| {
        rig.registry.push_blob("empty", bytes);
    });
    empty.layers.clear();
    let truth = manifest["layers"][0]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    manifest["layers"][0]["size"] = json!(0);
    rig.registry
        .push_manifest("empty", Some("1"), OCI_MANIFEST, &manifest);
    let name = rig.name("empty:1");
    let why = rig.pull(&name).await.expect_err("nothing is not that");
    refused(
        &rig,
        &before,
        &name,
        &why,
        &format!("sends as {truth} does not match that digest"),
    );
    // What is no tar.
    let mut broken = Image::busybox(Packed::OciPlain, "broken", &[]);
    broken.layers[0] = crate::registry::noise("broken", 100_000);
    rig.registry.push("broken", "1", &broken);
    let name = rig.name("broken:1");
    let why = rig.pull(&name).await.expect_err("no tar");
    let report = why.report();
    assert!(
        report.contains(&name) && report.contains("Diff/Apply"),
        "{report}"
    );
    rig.settles(&before, "what is no tar");
    // What names places outside of it.
    let mark = format!("fnctr-evil-{}", std::process::id());
    for path in [
        format!("../../../../../../../../../../tmp/{mark}"),
        format!("/tmp/{mark}"),
    ] {
        let mut evil = Image::busybox(Packed::OciPlain, &path, &[]);
        evil.layers
            .push(tar_of(&[(path.clone(), b"evil".to_vec(), 0o644)], &[]));
        rig.registry.push("evil", "1", &evil);
        let name = rig.name("evil:1");
        match rig.pull(&name).await {
            Ok(()) => assert_eq!(rig.cat(&name, &format!("/tmp/{mark}")).await, "evil"),
            Err(why) => assert!(why.report().contains(&name), "{}", why.report()),
        }
        assert!(
            !std::path::Path::new("/tmp").join(&mark).exists(),
            "{path} broke out"
        );
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_none_is_refused_before_anything_is_asked() {
    let Some(rig) = Rig::set("a_name_that_is_none").await else {
        return;
    };
    let digest = format!("sha256:{}", "0".repeat(63));
    for (name, sentence) in [
        (rig.name("Upper/Case"), "must be lower-case"),
        (rig.name("a/b:"), "tag"),
        (rig.name(&format!("a/b@{digest}")), "64 lower-case hex digits"),
    ] {
        let task = fnctr::driver::Task {
            id: crate::rig::fresh_id(),
            image: name.clone(),
            disable_net: true,
            ..fnctr::driver::Task::default()
        };
        let made =
            fnctr::driver::Driver::create_cookie(&rig.driver, &crate::rig::ctx(), std::sync::Arc::new(task))
                .await;
        let why = made.expect_err("no name");
        let report = why.report();
        assert!(report.contains(&name) && report.contains(sentence), "{report}");
        assert!(why.is_user_error());
    }
    assert_eq!(rig.proxy.seen(), []);
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_named() {
    let Some(rig) = Rig::set("a_registry_that_is_down").await else {
        return;
    };
    let why = pull(&rig.driver, "127.0.0.1:1/a:1", None)
        .await
        .expect_err("down");
    assert_eq!((why.code(), why.kind()), (502, ErrorKind::Unavailable));
    let expected = "Failed to pull image '127.0.0.1:1/a:1': registry 127.0.0.1:1 cannot be reached: ";
    assert!(why.report().starts_with(expected), "{}", why.report());
    assert!(why.report().contains("refused"), "{}", why.report());
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_freed_again() {
    let test = "a_full_disk_is_named";
    if !available(test) {
        return;
    }
    let Some(real) = Real::start_small(test, 24) else {
        return;
    };
    let push = |registry: &crate::registry::Registry| {
        registry.push("big", "1", &Image::busybox(Packed::OciPlain, "big", &[40 << 20]));
        registry.push("small", "1", &Image::busybox(Packed::OciGzip, "small", &[10]));
        None
    };
    let rig = Rig::on(real, push, |_| {}).await.expect("a rig");
    let before = rig.world();
    let name = rig.name("big:1");
    let why = rig.pull(&name).await.expect_err("full");
    let report = why.report();
    assert_eq!((why.code(), why.kind()), (502, ErrorKind::Internal), "{report}");
    assert!(
        report.contains("the disk that containerd keeps its data on is full"),
        "{report}"
    );
    rig.settles(&before, "a full disk");
    rig.pull(&rig.name("small:1")).await.expect("there is room again");
    rig.strike().await;
}
