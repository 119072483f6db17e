//! The JSON documents of an image, as far as they are used here. Pure: parses text into types of this crate.
//!
//! Go writes an empty list as `null` or leaves it out, so every field that may be absent is an `Option`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ImageSettings, Platform};
use crate::Digest;
use crate::containerd::Descriptor;

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(super) const OCI_NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
pub(super) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub(super) const DOCKER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A reference to a blob, with the additional fields of an index.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Link {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
}

/// An index or a manifest. The fields show which of them it is, because older documents contain no media type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifests: Option<Vec<Link>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<Link>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layers: Option<Vec<Link>>,
}

/// The configuration blob.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Config {
    architecture: Option<String>,
    variant: Option<String>,
    os: Option<String>,
    created: Option<String>,
    rootfs: RootFs,
    config: Option<Process>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Process {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    healthcheck: Option<serde_json::Value>,
}

/// The kernel stacks at most 500 layers (OVL_MAX_STACK in its fs/overlayfs).
const MAX_LAYERS: usize = 500;

/// A manifest for one platform, checked.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

impl Link {
    pub(super) fn new(blob: &Descriptor) -> Self {
        Self {
            media_type: blob.media_type.clone(),
            digest: blob.digest.to_string(),
            size: blob.size,
            annotations: None,
            platform: None,
        }
    }

    pub(super) fn descriptor(&self) -> Result<Descriptor, String> {
        Ok(Descriptor {
            media_type: self.media_type.clone(),
            digest: Digest::new(self.digest.clone()).map_err(|why| why.to_string())?,
            size: self.size,
        })
    }

    pub(super) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }

    pub(super) fn is_manifest(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_MANIFEST | DOCKER_MANIFEST)
    }
}

pub(super) fn parse(json: &[u8]) -> Result<Manifest, String> {
    serde_json::from_slice(json).map_err(|why| format!("its manifest cannot be parsed: {why}"))
}

/// The entry of an index that runs best on `wanted`: an entry with a suitable platform, or else one without a platform.
/// The error lists the platforms that exist instead.
pub(super) fn choose<'a>(links: &'a [Link], wanted: &Platform) -> Result<&'a Link, String> {
    let usable = || links.iter().filter(|link| link.is_manifest() || link.is_index());
    let says = usable()
        .filter_map(|link| Some((wanted.rank(link.platform.as_ref()?)?, link)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, link)| link);
    let silent = || usable().find(|link| link.platform.is_none());
    says.or_else(silent).ok_or_else(|| {
        let found: Vec<_> = usable()
            .filter_map(|link| link.platform.as_ref())
            .filter(|platform| platform.is_known())
            .map(ToString::to_string)
            .collect();
        if found.is_empty() {
            "no platform at all".to_owned()
        } else {
            found.join(", ")
        }
    })
}

/// Whether a blob of this media type is a layer that containerd can unpack. The last two types are for layers whose
/// publishers do not want them in other registries; their format is the same.
pub(super) fn is_layer(media_type: &str) -> bool {
    let oci = |base: &str| {
        media_type
            .strip_prefix(base)
            .is_some_and(|rest| ["", "+gzip", "+zstd"].contains(&rest))
    };
    let docker = |base: &str| {
        media_type
            .strip_prefix(base)
            .is_some_and(|rest| ["", ".gzip", ".zstd"].contains(&rest))
    };
    oci(OCI_LAYER)
        || docker(DOCKER_LAYER)
        || oci(OCI_NONDISTRIBUTABLE)
        || docker("application/vnd.docker.image.rootfs.foreign.diff.tar")
}

/// The media type of a layer without its compression.
pub(super) fn bare(media_type: &str) -> &str {
    let suffixes = ["+gzip", "+zstd", ".gzip", ".zstd"];
    let bare = suffixes.iter().find_map(|suffix| media_type.strip_suffix(suffix));
    bare.unwrap_or(media_type)
}

/// The media type that shows that a manifest is not an image, but for example a signature, an attestation or a chart.
/// `None` if it may be an image.
pub(super) fn artifact(manifest: &Manifest) -> Option<&str> {
    let layers = manifest.layers.as_deref().unwrap_or_default();
    if let Some(other) = layers.iter().find(|layer| !is_layer(&layer.media_type)) {
        return Some(&other.media_type);
    }
    // The type of the configuration is checked only if there are no layers: in images of 2015 it is
    // application/octet-stream.
    let config = manifest.config.as_ref().filter(|_| layers.is_empty())?;
    (![OCI_CONFIG, DOCKER_CONFIG].contains(&config.media_type.as_str())).then_some(&config.media_type)
}

/// The media type of a document: the one that was sent with it, or else the one that it contains; they must not
/// contradict each other. A document that can be read as two types is an attack (CVE-2021-41190).
pub(super) fn kind(sent: &str, document: &Manifest) -> Result<String, String> {
    if sent.contains("vnd.docker.distribution.manifest.v1") || document.schema_version == 1 {
        let what = "its manifest is of Docker's schema 1, which is obsolete since 2017 and cannot be verified: push the image again with a newer docker";
        return Err(what.to_owned());
    }
    let known = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];
    let index = document.manifests.is_some();
    if index && (document.layers.is_some() || document.config.is_some()) {
        return Err("its manifest claims to be an index too".to_owned());
    }
    let said = document.media_type.as_deref().filter(|said| !said.is_empty());
    let kind = match (known.contains(&sent), said) {
        (true, Some(said)) if said != sent => {
            return Err(format!(
                "its manifest calls itself {said}, and was sent as {sent}"
            ));
        }
        (true, _) => sent,
        (false, Some(said)) => said,
        (false, None) if index => OCI_INDEX,
        (false, None) => OCI_MANIFEST,
    };
    match (kind, index) {
        (OCI_INDEX | DOCKER_LIST, true) | (OCI_MANIFEST | DOCKER_MANIFEST, false) => Ok(kind.to_owned()),
        _ => Err(format!(
            "its manifest is of the type {kind}, which is unknown or does not fit its content"
        )),
    }
}

pub(super) fn layers(manifest: Manifest) -> Result<Layers, String> {
    let config = manifest.config.ok_or("its manifest names no configuration")?;
    let layers = manifest.layers.unwrap_or_default();
    if layers.is_empty() {
        return Err("it has no layers".to_owned());
    }
    if layers.len() > MAX_LAYERS {
        return Err(format!(
            "it has {} layers, and {MAX_LAYERS} are allowed",
            layers.len()
        ));
    }
    Ok(Layers {
        config: config.descriptor()?,
        layers: layers.iter().map(Link::descriptor).collect::<Result<_, _>>()?,
    })
}

/// The settings in the configuration that containers need, and the diff ids of its layers.
pub(super) fn config(json: &[u8]) -> Result<(ImageSettings, Vec<Digest>), String> {
    let config: Config =
        serde_json::from_slice(json).map_err(|why| format!("its configuration cannot be parsed: {why}"))?;
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    let diff_ids = diff_ids
        .into_iter()
        .map(|id| Digest::new(id).map_err(|why| why.to_string()))
        .collect::<Result<Vec<_>, _>>()?;
    let process = config.config.unwrap_or_default();
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let settings = ImageSettings {
        env: process.env.unwrap_or_default(),
        entrypoint: process.entrypoint.unwrap_or_default(),
        cmd: process.cmd.unwrap_or_default(),
        working_dir: some(process.working_dir),
        user: some(process.user),
        volumes: process.volumes.unwrap_or_default().into_keys().collect(),
        labels: process.labels.unwrap_or_default(),
        stop_signal: some(process.stop_signal),
        exposed_ports: process.exposed_ports.unwrap_or_default().into_keys().collect(),
        // An extension of Docker's, which must not make an image unusable.
        health: process
            .healthcheck
            .and_then(|check| serde_json::from_value(check).ok()),
        architecture: config.architecture.unwrap_or_default(),
        variant: some(config.variant),
        os: config.os.unwrap_or_default(),
        created: some(config.created),
    };
    Ok((settings, diff_ids))
}

/// The digest of a document.
pub(super) fn digest_of(bytes: &[u8]) -> Option<Digest> {
    Digest::new(format!(
        "sha256:{:x}",
        <sha2::Sha256 as sha2::Digest>::digest(bytes)
    ))
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_nulls_are_absences() {
        let json = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null},
            "config":{"Env":null,"Cmd":null,"Entrypoint":["/x"],"Volumes":null,"User":"","Labels":null}}"#;
        let (settings, diff_ids) = config(json).unwrap();
        assert_eq!(
            (settings.entrypoint.as_slice(), settings.user),
            (["/x".to_owned()].as_slice(), None)
        );
        assert!(diff_ids.is_empty() && settings.env.is_empty() && settings.volumes.is_empty());
    }

    #[test]
    fn what_is_no_image_is_recognised_by_its_layers_and_by_its_configuration_only_without_any() {
        let manifest = |config: &str, layers: &[&str]| -> Manifest {
            let link = |kind: &str| serde_json::json!({"mediaType": kind, "digest": "sha256:x", "size": 1});
            let layers: Vec<_> = layers.iter().map(|kind| link(kind)).collect();
            let json = serde_json::json!({"schemaVersion": 2, "config": link(config), "layers": layers});
            serde_json::from_value(json).unwrap()
        };
        let chart = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
        let empty = "application/vnd.oci.empty.v1+json";
        for (config, layers, expected) in [
            (OCI_CONFIG, &[OCI_LAYER][..], None),
            (DOCKER_CONFIG, &[DOCKER_LAYER, DOCKER_ZSTD], None),
            ("application/octet-stream", &[DOCKER_LAYER], None),
            (OCI_CONFIG, &[], None),
            (
                OCI_CONFIG,
                &["application/vnd.in-toto+json"],
                Some("application/vnd.in-toto+json"),
            ),
            ("application/vnd.cncf.helm.config.v1+json", &[chart], Some(chart)),
            (empty, &[], Some(empty)),
        ] {
            assert_eq!(
                artifact(&manifest(config, layers)),
                expected,
                "{config} {layers:?}"
            );
        }
        for (packed, expected) in [
            ("application/vnd.oci.image.layer.v1.tar+zstd", OCI_LAYER),
            (DOCKER_ZSTD, DOCKER_LAYER),
            (OCI_LAYER, OCI_LAYER),
        ] {
            assert_eq!(bare(packed), expected);
        }
    }

    #[test]
    fn the_manifest_of_this_machine_is_chosen_and_attestations_never_are() {
        let link = |os: &str, architecture: &str, size| Link {
            media_type: OCI_MANIFEST.into(),
            digest: String::new(),
            size,
            annotations: None,
            platform: Some(Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: None,
            }),
        };
        let host = Platform {
            os: "linux".into(),
            architecture: "arm64".into(),
            variant: None,
        };
        let all = [
            link("unknown", "unknown", 1),
            link("linux", "amd64", 2),
            link("linux", "arm64", 3),
        ];
        assert_eq!(choose(&all, &host).unwrap().size, 3);
        assert_eq!(choose(&all[..2], &host).unwrap_err(), "linux/amd64");
        let silent = Link {
            platform: None,
            ..link("", "", 4)
        };
        assert_eq!(choose(&[all[1].clone(), silent], &host).unwrap().size, 4);
    }
}
