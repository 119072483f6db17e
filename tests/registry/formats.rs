//! Every kind of image that registries keep, by every kind of name.

use serde_json::json;

use crate::registry::{DOCKER_LIST, Image, OCI_INDEX, Packed, architecture};
use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn every_format_is_pulled_and_runs() {
    let Some(rig) = Rig::set("every_format_is_pulled_and_runs").await else {
        return;
    };
    for (tag, packed) in [
        ("docker", Packed::Docker),
        ("gzip", Packed::OciGzip),
        ("zstd", Packed::OciZstd),
        ("plain", Packed::OciPlain),
    ] {
        let image = Image::busybox(packed, tag, &[3 << 20, 10]);
        rig.registry.push("formats", tag, &image);
        let name = rig.name(&format!("formats:{tag}"));
        rig.pull(&name).await.expect("to pull");
        assert_eq!(rig.cat(&name, "/etc/salt").await, tag);
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_a_digest_and_both_are_names() {
    let Some(rig) = Rig::set("a_tag_a_digest_and_both_are_names").await else {
        return;
    };
    let digest = rig
        .registry
        .push("a/b", "v1", &Image::busybox(Packed::OciGzip, "names", &[]));
    rig.pull(&rig.name(&format!("a/b@{digest}")))
        .await
        .expect("by digest");
    // Nothing has to be resolved for a digest, and the second name of it needs no registry at all.
    assert_eq!(rig.proxy.count("HEAD", ""), 0);
    assert_eq!(rig.proxy.count("GET", "/manifests/"), 1);
    rig.proxy.reset();
    rig.pull(&rig.name(&format!("a/b:v1@{digest}")))
        .await
        .expect("by both");
    assert_eq!(rig.proxy.seen(), []);
    rig.pull(&rig.name("a/b:v1")).await.expect("by tag");
    assert_eq!(rig.proxy.count("HEAD", "/manifests/v1"), 1);
    assert_eq!(rig.proxy.count("GET", ""), 0);
    assert_eq!(rig.cat(&rig.name("a/b:v1"), "/etc/salt").await, "names");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_gives_this_machine_its_own() {
    let Some(rig) = Rig::set("an_index_gives_this_machine_its_own").await else {
        return;
    };
    for (tag, kind, packed) in [
        ("list", DOCKER_LIST, Packed::Docker),
        ("index", OCI_INDEX, Packed::OciGzip),
    ] {
        let mut links = Vec::new();
        for (os, arch, variant) in [
            ("windows", architecture(), None),
            ("linux", "s390x", None),
            ("linux", architecture(), None),
            ("linux", "arm", Some("v7")),
        ] {
            let salt = format!("{tag}/{os}/{arch}");
            let image = Image::busybox(packed, &salt, &[]).of(os, arch, variant);
            let manifest = image.manifest(|_| {});
            let digest = rig.registry.push_with("multi", None, &image);
            let mut platform = json!({"os": os, "architecture": arch});
            if let Some(variant) = variant {
                platform["variant"] = json!(variant);
            }
            links.push(json!({
                "mediaType": image.kind(), "digest": digest, "size": serde_json::to_vec(&manifest).expect("JSON").len(),
                "platform": platform,
            }));
        }
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": links});
        rig.registry.push_manifest("multi", Some(tag), kind, &index);
        let name = rig.name(&format!("multi:{tag}"));
        rig.proxy.reset();
        rig.pull(&name).await.expect("to pull");
        assert_eq!(
            rig.cat(&name, "/etc/salt").await,
            format!("{tag}/linux/{}", architecture())
        );
        // The index, one manifest, its configuration and its one layer.
        assert_eq!(rig.proxy.count("GET", "/manifests/"), 2);
        assert_eq!(rig.proxy.count("GET", "/blobs/"), 2);
    }
    rig.strike().await;
}
