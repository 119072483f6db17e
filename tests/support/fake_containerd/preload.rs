//! An image that is there from the start: manifest, config and layer as content, the layer unpacked by chain id.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use containerd_client::services::v1::Image;
use containerd_client::services::v1::snapshots::{Info, Kind};
use containerd_client::types::Descriptor;
use serde_json::{Value, json};

use super::Fake;
use super::state::{Blob, Namespace, Snapshot, now};

/// An image with one layer, which holds `/etc/passwd` and `/etc/group` with the user `worker` (1234:1234), and an
/// executable `/bin/true` to be found there. What a container does is its script's to say.
#[derive(Debug, Clone)]
pub struct FakeImage {
    /// With registry and tag.
    pub name: String,
    /// The `config` part of the image's configuration, as in `{"Cmd": ["/bin/true"]}`.
    pub config: Value,
    /// Where the layer is unpacked.
    pub snapshotter: String,
}

impl Default for FakeImage {
    fn default() -> Self {
        Self {
            name: "docker.io/library/fake:latest".into(),
            config: json!({"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/true"]}),
            snapshotter: "overlayfs".into(),
        }
    }
}

fn files() -> [(&'static str, u32, Vec<u8>); 3] {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nworker:x:1234:1234::/home/worker:/bin/sh\n";
    let group = "root:x:0:\nworker:x:1234:\n";
    [
        ("etc/passwd", 0o644, passwd.into()),
        ("etc/group", 0o644, group.into()),
        ("bin/true", 0o755, program()),
    ]
}

/// The headers of a program for this machine without a loader (ELF specification, figures 1-3 and 2-1), and nothing behind them.
fn program() -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[16] = 2;
    bytes[18] = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        other => panic!("no program for {other}"),
    };
    (bytes[0x20], bytes[0x36], bytes[0x38], bytes[64]) = (64, 56, 1, 1);
    bytes
}

pub(super) fn install(fake: &Fake, namespace: &str, image: &FakeImage) {
    let mut state = fake.state();
    state.snapshots_made += 1;
    let dir = fake.root.join(state.snapshots_made.to_string());
    let namespace = state.namespaces.entry(namespace.into()).or_default();

    let layer = put(
        namespace,
        "application/vnd.oci.image.layer.v1.tar",
        layer(),
        HashMap::new(),
    );
    // Of the first layer the chain id is the diff id, and of a layer that is not compressed that is the digest.
    let chain_id = layer.digest.clone();
    unpack(namespace, &image.snapshotter, &chain_id, dir);
    let config = json!({
        "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
        "os": "linux",
        "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": [chain_id]},
    });
    let unpacked = format!("containerd.io/gc.ref.snapshot.{}", image.snapshotter);
    let config = put(
        namespace,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().into_bytes(),
        HashMap::from([(unpacked, chain_id)]),
    );
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": config.media_type, "digest": config.digest, "size": config.size},
        "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}],
    });
    let references = HashMap::from([
        ("containerd.io/gc.ref.content.config".to_owned(), config.digest),
        ("containerd.io/gc.ref.content.l.0".to_owned(), layer.digest),
    ]);
    let target = put(
        namespace,
        media_type,
        manifest.to_string().into_bytes(),
        references,
    );
    let record = Image {
        name: image.name.clone(),
        target: Some(target),
        created_at: now(),
        updated_at: now(),
        ..Image::default()
    };
    namespace.images.insert(image.name.clone(), record);
}

fn put(
    namespace: &mut Namespace,
    media_type: &str,
    data: Vec<u8>,
    labels: HashMap<String, String>,
) -> Descriptor {
    let blob = Blob::new(data, labels);
    let descriptor = Descriptor {
        media_type: media_type.into(),
        digest: blob.info.digest.clone(),
        size: blob.info.size,
        ..Descriptor::default()
    };
    namespace.content.insert(descriptor.digest.clone(), blob);
    descriptor
}

fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode, bytes) in files() {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn unpack(namespace: &mut Namespace, snapshotter: &str, chain_id: &str, dir: std::path::PathBuf) {
    fs::create_dir_all(dir.join("work")).unwrap();
    for (path, mode, bytes) in files() {
        let path = dir.join("fs").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let info = Info {
        name: chain_id.into(),
        kind: Kind::Committed.into(),
        created_at: now(),
        updated_at: now(),
        ..Info::default()
    };
    let key = (snapshotter.to_owned(), chain_id.to_owned());
    namespace.snapshots.entry(key).or_insert(Snapshot { info, dir });
}
