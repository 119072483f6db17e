//! Makes an image loadable by every version of Docker: without layers that are compressed with zstd, which versions
//! before 23.0 do not support.
//!
//! Such a layer is written as an uncompressed tar, as in Docker's own archives. In a tar archive the size of an entry
//! precedes its bytes, so the layer is decompressed twice: once before anything is written, to find its size and to
//! verify its digest, and once to write it. This takes time, but no disk space. The manifest changes; the
//! configuration, whose digest is the id of the image, stays the same.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bare::Packed;
use super::contents::Found;
use super::manifest::digest_of;
use super::store::read;
use super::{Error, ImageStore, manifest};
use crate::compression::{Compression, MAGIC};
use crate::containerd::Descriptor;
use crate::{Context, Digest};

/// An image in the form in which it is written.
#[derive(Debug)]
pub(super) struct Plain {
    /// The image, with the replaced layers.
    pub(super) found: Found,
    /// The new manifest, if a layer was replaced.
    pub(super) manifest: Option<Vec<u8>>,
    /// The sources of the uncompressed layers.
    pub(super) tars: BTreeMap<Digest, Packed>,
}

impl Plain {
    /// The image without any replacement.
    pub(super) fn unchanged(found: Found) -> Self {
        Self {
            found,
            manifest: None,
            tars: BTreeMap::new(),
        }
    }

    /// The image of this name without zstd layers. All its parts must be in the content store.
    ///
    /// # Errors
    /// [`Error::WrongLayer`] for a layer whose uncompressed digest differs from the one in the image's configuration.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn of(
        store: &ImageStore,
        ctx: &Context,
        image: &str,
        mut found: Found,
    ) -> Result<Self, Error> {
        let content = store.session.content();
        let mut tars = BTreeMap::new();
        let mut replaced = BTreeMap::new();
        for (at, (layer, diff_id)) in found.layers.iter_mut().zip(&found.diff_ids).enumerate() {
            let head = content.head(ctx, &layer.digest, MAGIC).await;
            let head = head.map_err(Error::containerd(image))?;
            // Recognised by its first bytes, because the media type may be wrong.
            let Some(compression @ Compression::Zstd) = Compression::of(&head) else {
                continue;
            };
            let packed = Packed {
                blob: layer.digest.clone(),
                compression,
            };
            let (digest, size) = packed.measure(ctx, &content).await?;
            if digest != diff_id.as_str() {
                return Err(Error::WrongLayer {
                    image: image.to_owned(),
                    layer: layer.digest.to_string(),
                    expected: diff_id.to_string(),
                    found: digest,
                });
            }
            *layer = Descriptor {
                media_type: manifest::bare(&layer.media_type).to_owned(),
                digest: diff_id.clone(),
                size,
            };
            replaced.insert(at, layer.clone());
            tars.insert(diff_id.clone(), packed);
        }
        if replaced.is_empty() {
            return Ok(Self::unchanged(found));
        }
        let lacks = || Error::NotWhole {
            image: image.to_owned(),
            parts: vec![format!("manifest {}", found.manifest.digest)],
        };
        let json = read(ctx, &store.session, image, &found.manifest).await?;
        let made = with_layers(&json.ok_or_else(lacks)?, &replaced);
        let made = made.map_err(|what| Error::malformed(image, what))?;
        let digest = digest_of(&made).ok_or_else(|| Error::malformed(image, "its manifest has no digest"))?;
        found.manifest = Descriptor {
            digest,
            size: made.len() as u64,
            ..found.manifest
        };
        Ok(Self {
            found,
            manifest: Some(made),
            tars,
        })
    }
}

/// The manifest with these layers replaced and all else unchanged.
fn with_layers(json: &[u8], replaced: &BTreeMap<usize, Descriptor>) -> Result<Vec<u8>, String> {
    let wrong = |why: serde_json::Error| format!("its manifest cannot be parsed: {why}");
    let mut manifest: Value = serde_json::from_slice(json).map_err(wrong)?;
    for (at, layer) in replaced {
        let place = manifest.get_mut("layers").and_then(|layers| layers.get_mut(at));
        // Other fields of a layer, such as a table of its contents, describe the compressed form and are dropped.
        *place.ok_or("its manifest has fewer layers than it had")? = json!({
            "mediaType": layer.media_type, "digest": layer.digest.as_str(), "size": layer.size,
        });
    }
    serde_json::to_vec(&manifest).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_gets_other_layers_and_keeps_the_rest() {
        let old = json!({
            "schemaVersion": 2, "mediaType": "m", "annotations": {"a": "b"},
            "config": {"mediaType": "c", "digest": "sha256:c", "size": 1},
            "layers": [
                {"mediaType": "l", "digest": "sha256:1", "size": 1},
                {"mediaType": "l+zstd", "digest": "sha256:2", "size": 2, "annotations": {"toc": "x"}},
            ],
        });
        let layer = Descriptor {
            media_type: "l".into(),
            digest: Digest::new(format!("sha256:{}", "3".repeat(64))).unwrap(),
            size: 30,
        };
        let bytes = serde_json::to_vec(&old).unwrap();
        let made = with_layers(&bytes, &BTreeMap::from([(1, layer.clone())])).unwrap();
        let mut expected = old;
        expected["layers"][1] = json!({"mediaType": "l", "digest": layer.digest.as_str(), "size": 30});
        assert_eq!(serde_json::from_slice::<Value>(&made).unwrap(), expected);
        assert!(with_layers(&bytes, &BTreeMap::from([(2, layer)])).is_err());
    }
}
