//! Registries and images that do what the specifications do not foresee, and that others pull all the same. Each is from a
//! report about another client, which is named.

use crate::registry::{Image, OCI_LAYER, OCI_MANIFEST, Packed, gzip, zstd};
use crate::rig::Rig;

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
