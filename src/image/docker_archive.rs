//! The archive format of `docker save` before Docker 25: `manifest.json` names a configuration and its layers.
//!
//! It has no manifest in the registry's sense, so one is made; the configuration stays as it is, because its digest is
//! the image id.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::load::{Expected, Import, Imported, Wanted, digest_of, distinct};
use super::manifest::{self, Link, Manifest, OCI_CONFIG, OCI_MANIFEST};
use super::store::MAX_JSON;
use super::{Error, Reference};
use crate::Digest;
use crate::containerd::Descriptor;

const MANIFEST: &str = "manifest.json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

struct Image {
    names: Vec<Reference>,
    config: Vec<u8>,
    config_name: String,
    layers: Vec<(String, Digest)>,
}

pub(super) async fn import(import: &Import<'_>) -> Result<Vec<Imported>, Error> {
    let Some(json) = import.archive.read(MANIFEST, MAX_JSON).await? else {
        let why = if import.archive.is_empty() {
            "there is nothing in it"
        } else {
            "it has neither a manifest.json nor a complete index.json"
        };
        return Err(Error::NotAnArchive {
            path: import.archive.path().to_owned(),
            why: why.to_owned(),
        });
    };
    let saved: Vec<Saved> = serde_json::from_slice(&json)
        .map_err(|why| import.malformed(format!("its manifest.json is not one: {why}")))?;
    let mut images = Vec::new();
    for saved in saved {
        images.push(image(import, saved).await?);
    }
    let mut wanted = Vec::new();
    for (name, diff_id) in images.iter().flat_map(|image| &image.layers) {
        wanted.push(Wanted {
            entry: import.archive.file(name).ok_or_else(|| import.incomplete(name))?,
            name: name.clone(),
            is: Expected::Layer(diff_id.clone()),
        });
    }
    let blobs = import.blobs(wanted).await?;
    let mut imported = Vec::new();
    for image in images {
        let layers = image
            .layers
            .iter()
            .map(|(name, _)| {
                let entry = import.archive.file(name);
                let blob = entry.and_then(|entry| blobs.get(&entry));
                blob.cloned().ok_or_else(|| import.incomplete(name))
            })
            .collect::<Result<Vec<_>, _>>()?;
        imported.push(Imported {
            target: manifest(import, &image, &layers).await?,
            names: image.names,
        });
    }
    Ok(imported)
}

/// Reads and checks what one entry of `manifest.json` says.
async fn image(import: &Import<'_>, saved: Saved) -> Result<Image, Error> {
    let config = import
        .archive
        .read(&saved.config, MAX_JSON)
        .await?
        .ok_or_else(|| import.incomplete(&saved.config))?;
    // The file is called by its digest. Where it is, it must be.
    let stem = saved.config.rsplit('/').next().unwrap_or_default();
    let claimed = Digest::new(format!("sha256:{}", stem.strip_suffix(".json").unwrap_or(stem)));
    if claimed.is_ok_and(|claimed| digest_of(&config) != Some(claimed)) {
        return Err(import.corrupt(&saved.config));
    }
    let (_, diff_ids) = manifest::config(&config).map_err(|what| import.malformed(what))?;
    let layers = saved.layers.unwrap_or_default();
    if layers.len() != diff_ids.len() {
        let what = format!("{} layers, but {} diff ids", layers.len(), diff_ids.len());
        return Err(import.malformed(what));
    }
    let tags = saved.repo_tags.unwrap_or_default();
    let names = tags
        .iter()
        .map(|tag| Reference::parse(tag))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Image {
        names: distinct(names),
        config,
        config_name: saved.config,
        layers: layers.into_iter().zip(diff_ids).collect(),
    })
}

/// Makes the manifest that the format lacks.
async fn manifest(import: &Import<'_>, image: &Image, layers: &[Descriptor]) -> Result<Descriptor, Error> {
    let config = import
        .document(&image.config_name, OCI_CONFIG, &image.config, &BTreeMap::new())
        .await?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        manifests: None,
        config: Some(Link::new(&config)),
        layers: Some(layers.iter().map(Link::new).collect()),
    };
    let json = serde_json::to_vec(&manifest).map_err(|why| import.malformed(why.to_string()))?;
    let mut refers_to = BTreeMap::from([("config".to_owned(), config.digest)]);
    refers_to.extend(
        layers
            .iter()
            .enumerate()
            .map(|(n, layer)| (format!("l.{n}"), layer.digest.clone())),
    );
    import.document(MANIFEST, OCI_MANIFEST, &json, &refers_to).await
}
