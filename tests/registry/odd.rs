//! Registries and images that do what the specifications do not foresee, and that others pull all the same. Each is from a
//! report about another client, which is named.

use crate::proxy::Fate;
use crate::registry::{Image, OCI_LAYER, OCI_MANIFEST, Packed, digest, gzip, zstd};
use crate::rig::Rig;

/// moby/moby#17595 and quay/quay#1310: what is asked for without a Content-Encoding comes with one, of bytes as they are
/// (Apache's httpd) or of compressed ones (registry.access.redhat.com).
#[tokio::test(flavor = "multi_thread")]
async fn documents_may_be_compressed_on_their_way_and_layers_be_called_so() {
    let Some(rig) = Rig::set("documents_may_be_compressed").await else {
        return;
    };
    let image = Image::busybox(Packed::OciGzip, "encoded", &[10]);
    let mut blobs = std::collections::BTreeMap::new();
    let manifest = image.manifest(|bytes| {
        rig.registry.push_blob("encoded", bytes);
        blobs.insert(digest(bytes), bytes.to_vec());
    });
    rig.registry
        .push_manifest("encoded", Some("1"), OCI_MANIFEST, &manifest);
    let manifest = serde_json::to_vec(&manifest).expect("JSON");
    let config =
        serde_json::from_slice::<serde_json::Value>(&manifest).expect("JSON")["config"]["digest"].clone();
    let config = config.as_str().expect("a digest").to_owned();
    rig.proxy.plan(move |seen| {
        let answer = |encoding: &str, kind: &str, bytes: Vec<u8>| {
            let headers = vec![
                ("content-encoding".to_owned(), encoding.to_owned()),
                ("content-type".to_owned(), kind.to_owned()),
            ];
            Fate::Answer("200 OK".to_owned(), headers, bytes)
        };
        let found = blobs.iter().find(|(digest, _)| seen.is_blob(digest));
        match found {
            _ if seen.path.contains("/manifests/") => answer("gzip", OCI_MANIFEST, gzip(&manifest)),
            Some((found, bytes)) if *found == config => {
                answer("gzip", "application/octet-stream", gzip(bytes))
            }
            Some((_, bytes)) => answer("x-gzip", "application/octet-stream", bytes.clone()),
            None => Fate::Pass,
        }
    });
    let name = rig.name("encoded:1");
    rig.pull(&name).await.expect("to pull");
    assert_eq!(rig.cat(&name, "/etc/salt").await, "encoded");
    rig.strike().await;
}

/// containerd/containerd#2840 and #4397: the digest with which a HEAD is answered is one that the registry does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_its_registry_does_not_know_is_asked_for_by_its_tag() {
    let Some(rig) = Rig::set("a_digest_that_its_registry").await else {
        return;
    };
    let image = Image::busybox(Packed::OciGzip, "unknown", &[]);
    let real = rig.registry.push("unknown", "1", &image);
    let wrong = digest(b"what was stored before it was converted");
    let headers = [
        ("docker-content-digest", wrong.as_str()),
        ("content-type", OCI_MANIFEST),
        ("content-length", "1234"),
    ];
    rig.proxy.break_next(
        usize::MAX,
        |seen| seen.method == "HEAD",
        Fate::status("200 OK", &headers, ""),
    );
    let name = rig.name("unknown:1");
    rig.pull(&name).await.expect("to pull");
    assert_eq!(rig.cat(&name, "/etc/salt").await, "unknown");
    assert_eq!(rig.proxy.count("GET", &format!("/manifests/{wrong}")), 1);
    assert_eq!(rig.proxy.count("GET", "/manifests/1"), 1);
    let (listed, said) = rig.ctr(&["images", "ls"]);
    assert!(listed && said.contains(&real), "{said}");
    rig.strike().await;
}

/// containerd/containerd#5482 and moby/moby#48361: layers that are not what they are called, and the configuration of an image
/// of 2015.
#[tokio::test(flavor = "multi_thread")]
async fn layers_are_what_their_first_bytes_say_and_a_configuration_is_what_a_manifest_points_to() {
    let Some(rig) = Rig::set("layers_are_what_their_first_bytes_say").await else {
        return;
    };
    for (salt, called, pack) in [
        ("gzip", OCI_LAYER, gzip as fn(&[u8]) -> Vec<u8>),
        ("zstd", OCI_LAYER, zstd),
        (
            "crossed",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            zstd,
        ),
    ] {
        let image = Image::busybox(Packed::OciPlain, salt, &[1000]);
        let mut manifest = image.manifest(|bytes| {
            rig.registry.push_blob("odd", bytes);
        });
        for (at, tar) in image.layers.iter().enumerate() {
            let bytes = pack(tar);
            manifest["layers"][at] = serde_json::json!({
                "mediaType": called, "digest": rig.registry.push_blob("odd", &bytes), "size": bytes.len()
            });
        }
        manifest["config"]["mediaType"] = "application/octet-stream".into();
        rig.registry
            .push_manifest("odd", Some(salt), OCI_MANIFEST, &manifest);
        let name = rig.name(&format!("odd:{salt}"));
        rig.pull(&name)
            .await
            .unwrap_or_else(|why| panic!("{salt}: {why:?}"));
        assert_eq!(rig.cat(&name, "/etc/salt").await, salt);
    }
    rig.strike().await;
}

/// containerd/containerd#3583: a manifest that lists the same layer more than once, where containerd waited for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_an_image_has_several_times_is_fetched_once_and_unpacked_each_time() {
    let Some(rig) = Rig::set("a_layer_that_an_image_has_several_times").await else {
        return;
    };
    let mut image = Image::busybox(Packed::OciGzip, "several", &[200_000, 10]);
    let (middle, last) = (image.layers[1].clone(), image.layers[2].clone());
    image.layers.extend([middle.clone(), last, middle.clone()]);
    rig.registry.push("several", "1", &image);
    let name = rig.name("several:1");
    rig.pull(&name).await.expect("to pull");
    assert_eq!(rig.cat(&name, "/etc/salt").await, "several");
    assert_eq!(rig.proxy.count("GET", &digest(&gzip(&middle))), 1);
    // Those that are removed lie on the disk for a while, and are not listed.
    let (listed, said) = rig.ctr(&["snapshots", "ls"]);
    assert!(listed && said.matches("Committed").count() == 6, "{said}");
    rig.strike().await;
}
