//! Image archives created in memory, valid and broken ones. The program in them is the host's static busybox.

use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A file of a layer or of an archive.
pub(super) enum Item {
    File(Vec<u8>, u32),
    Link(&'static str),
}

pub(super) fn tar(items: &[(&str, Item)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, item) in items {
        let mut header = tar::Header::new_ustar();
        header.set_uid(0);
        header.set_gid(0);
        match item {
            Item::File(bytes, mode) => {
                header.set_size(bytes.len() as u64);
                header.set_mode(*mode);
                // Set directly, because the builder's own method refuses the names that an attacker would choose.
                header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_cksum();
                tar.append(&header, bytes.as_slice()).unwrap();
            }
            Item::Link(to) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                header.set_mode(0o777);
                tar.append_link(&mut header, name, to).unwrap();
            }
        }
    }
    tar.into_inner().unwrap()
}

pub(super) fn text(content: &str) -> Item {
    Item::File(content.as_bytes().to_vec(), 0o644)
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zstd frame whose blocks are stored uncompressed (RFC 8878, 3.1.1), so no compressor is needed.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    // Single segment, content size in 8 bytes.
    frame.push(0b1110_0000);
    frame.extend((bytes.len() as u64).to_le_bytes());
    let blocks: Vec<_> = bytes.chunks(128 << 10).collect();
    for (n, block) in blocks.iter().enumerate() {
        let last = u32::from(n + 1 == blocks.len());
        let header = (u32::try_from(block.len()).unwrap() << 3) | last;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(*block);
    }
    frame
}

pub(super) fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

pub(super) fn config(layers: &[Vec<u8>]) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| format!("sha256:{}", hex(layer)))
        .collect();
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "A=1"], "Entrypoint": null, "Cmd": ["sh", "-c", "exit 3"],
                   "User": "fn", "WorkingDir": "/work", "Volumes": {"/data": {}}, "StopSignal": "SIGINT"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// The lower and the upper layer of the test image, as uncompressed tars.
pub(super) fn layers() -> Vec<Vec<u8>> {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let lower = tar(&[
        ("bin/busybox", Item::File(busybox, 0o755)),
        ("bin/sh", Item::Link("busybox")),
        ("bin/gone", Item::File(b"#!/bin/sh\n".to_vec(), 0o755)),
        (
            "etc/passwd",
            text("root:x:0:0::/:/bin/sh\nfn:x:1000:1000::/work:/bin/sh\n"),
        ),
    ]);
    let upper = tar(&[
        ("bin/.wh.gone", text("")),
        ("etc/group", text("fn:x:1000:\n")),
        ("bin/plain", text("not executable")),
    ]);
    vec![lower, upper]
}

/// An archive as `docker save` of older versions writes it: the layers first, the manifest last.
pub(super) fn docker_archive(tags: &Value, config: &Value, layers: &[Vec<u8>]) -> Vec<u8> {
    let config = serde_json::to_vec(config).unwrap();
    let names: Vec<_> = (0..layers.len()).map(|n| format!("layer{n}/layer.tar")).collect();
    let config_name = format!("{}.json", hex(&config));
    let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]);
    let mut items: Vec<(&str, Item)> = Vec::new();
    for (name, layer) in names.iter().zip(layers) {
        items.push((name, Item::File(layer.clone(), 0o644)));
    }
    items.push((&config_name, Item::File(config, 0o644)));
    items.push(("manifest.json", text(&manifest.to_string())));
    tar(&items)
}

/// An OCI layout with one image: all blobs, and the index that points to it. `index` changes the entry in index.json.
pub(super) fn oci_layout(
    config: &Value,
    layers: &[(Vec<u8>, &str)],
    index: impl Fn(Value) -> Value,
) -> Vec<(String, Vec<u8>)> {
    let blob = |bytes: &[u8]| (format!("blobs/sha256/{}", hex(bytes)), bytes.to_vec());
    let link = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len()});
    let config = serde_json::to_vec(config).unwrap();
    let links: Vec<_> = layers
        .iter()
        .map(|(bytes, suffix)| link(&format!("application/vnd.oci.image.layer.v1.tar{suffix}"), bytes))
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": super::manifest::OCI_MANIFEST,
        "config": link(super::manifest::OCI_CONFIG, &config), "layers": links});
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let top = index(link(super::manifest::OCI_MANIFEST, &manifest));
    let index = json!({"schemaVersion": 2, "manifests": [top]});
    let mut files = vec![
        (
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ),
        ("index.json".to_owned(), serde_json::to_vec(&index).unwrap()),
        blob(&manifest),
        blob(&config),
    ];
    files.extend(layers.iter().map(|(bytes, _)| blob(bytes)));
    files
}

pub(super) fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), Item::File(bytes.clone(), 0o644)))
        .collect();
    tar(&items)
}

/// Adds a name to the link to a manifest, as an annotation.
pub(super) fn named(mut link: Value, name: &str) -> Value {
    link["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    link
}

/// A 64-bit little-endian program for this machine number, with a loader if one is named.
pub(super) fn elf(machine: u8, loader: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (bytes[16], bytes[18]) = (2, machine);
    (bytes[0x20], bytes[0x36], bytes[0x38]) = (64, 56, 1);
    bytes[64] = if loader.is_some() { 3 } else { 1 };
    if let Some(loader) = loader {
        bytes[64 + 8] = 120;
        bytes[64 + 32] = u8::try_from(loader.len() + 1).unwrap();
        bytes.extend(loader.as_bytes());
        bytes.push(0);
    }
    bytes
}
