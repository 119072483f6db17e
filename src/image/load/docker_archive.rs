//! The archive format of `docker save` before Docker 25: `manifest.json` lists for each image a configuration and its
//! layers.
//!
//! The format has no manifest as registries use it, so one is created. The configuration stays unchanged, because its
//! digest is the image id.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::import::{BlobSource, Expected, Import, Imported, Imports, distinct};
use crate::Digest;
use crate::containerd::Descriptor;
use crate::image::archive::Archive;
use crate::image::manifest::{self, Link, Manifest, OCI_CONFIG, OCI_MANIFEST, digest_of};
use crate::image::store::MAX_JSON;
use crate::image::{Error, Reference};

pub(super) const MANIFEST: &str = "manifest.json";

/// Files of which most root file systems contain at least one, and image archives contain none.
const ROOT_FILES: [&str; 5] = [
    ".dockerenv",
    "etc/passwd",
    "etc/os-release",
    "usr/lib/os-release",
    "bin/sh",
];

/// The entry of an image in `manifest.json`.
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

pub(super) async fn import(import: &Import<'_>) -> Result<Imports, Error> {
    let Some(json) = import.archive.read(MANIFEST, MAX_JSON).await? else {
        return Err(Error::NotAnArchive {
            path: import.archive.path().to_owned(),
            why: lacks_manifest(import.archive),
        });
    };
    let saved: Vec<Saved> = serde_json::from_slice(&json).map_err(|why| {
        // The manifest of a registry is an object, Docker's own is a list.
        if manifest::parse(&json).is_ok() {
            return Error::NotAnArchive {
                path: import.archive.path().to_owned(),
                why: "its manifest.json is a registry's, as skopeo's `dir:` keeps it: copy the image to `oci-archive:` or `docker-archive:`".to_owned(),
            };
        }
        import.malformed(format!("its manifest.json cannot be parsed: {why}"))
    })?;
    let mut images = Vec::new();
    for saved in saved {
        images.push(image(import, saved).await?);
    }
    let mut wanted = Vec::new();
    for (name, diff_id) in images.iter().flat_map(|image| &image.layers) {
        wanted.push(BlobSource {
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
    Ok(Imports {
        images: imported,
        passed_over: Vec::new(),
    })
}

/// The names of images in `manifest.json` by image id, where an archive has this file in addition to an OCI layout. A
/// file that cannot be parsed contributes no names.
pub(super) async fn tags(import: &Import<'_>) -> Result<HashMap<Digest, Vec<Reference>>, Error> {
    let json = import.archive.read(MANIFEST, MAX_JSON).await?;
    let saved: Option<Vec<Saved>> = json.and_then(|json| serde_json::from_slice(&json).ok());
    let named = saved.into_iter().flatten().filter_map(|saved| {
        let names = names(saved.repo_tags.as_deref().unwrap_or_default()).ok()?;
        Some((claimed(&saved.config)?, names))
    });
    Ok(named.collect())
}

/// Names with a digest are left out: it is the digest of a registry's manifest, but here the manifest is newly created.
fn names(tags: &[String]) -> Result<Vec<Reference>, Error> {
    let names = tags
        .iter()
        .map(|tag| Reference::parse(tag))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(distinct(names.into_iter().filter(|name| name.digest().is_none())))
}

/// The digest in the file name of a configuration, if there is one.
fn claimed(config: &str) -> Option<Digest> {
    let stem = config.rsplit('/').next().unwrap_or_default();
    Digest::new(format!("sha256:{}", stem.strip_suffix(".json").unwrap_or(stem))).ok()
}

/// Why an archive without a manifest cannot be loaded, as far as its file names show.
fn lacks_manifest(archive: &Archive) -> String {
    if archive.is_empty() {
        return "there is nothing in it".to_owned();
    }
    let has = |wanted: &str| archive.names().any(|name| name == wanted);
    let directory = directory_of_all(archive.names());
    if !directory.is_empty()
        && [MANIFEST, "oci-layout"]
            .iter()
            .any(|file| has(&format!("{directory}/{file}")))
    {
        return format!("its image lies in a directory: pack what is in it, with `tar -C {directory} -c .`");
    }
    if has("repositories") {
        return "it was saved by a Docker older than 1.10: load it there, and save it with a newer one"
            .to_owned();
    }
    if ROOT_FILES.iter().any(|file| has(file)) {
        return "it is a root file system, as `docker export` writes it, and no image: save the image, with `docker save`".to_owned();
    }
    "it has neither a manifest.json nor a complete index.json".to_owned()
}

/// The innermost directory that contains all of these names; empty if there is none.
fn directory_of_all<'a>(mut names: impl Iterator<Item = &'a str>) -> &'a str {
    let parent = |name: &'a str| name.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut directory = names.next().map_or("", parent);
    for name in names {
        while !directory.is_empty()
            && !name
                .strip_prefix(directory)
                .is_some_and(|rest| rest.starts_with('/'))
        {
            directory = parent(directory);
        }
    }
    directory
}

/// Reads and checks one entry of `manifest.json`.
async fn image(import: &Import<'_>, saved: Saved) -> Result<Image, Error> {
    let config = import
        .archive
        .read(&saved.config, MAX_JSON)
        .await?
        .ok_or_else(|| import.incomplete(&saved.config))?;
    // The file is usually named by its digest. If it is, the digest must match.
    if claimed(&saved.config).is_some_and(|claimed| digest_of(&config) != Some(claimed)) {
        return Err(import.corrupt(&saved.config));
    }
    let (_, diff_ids) = manifest::config(&config).map_err(|what| import.malformed(what))?;
    let layers = saved.layers.unwrap_or_default();
    if layers.len() != diff_ids.len() {
        let what = format!("{} layers, but {} diff ids", layers.len(), diff_ids.len());
        return Err(import.malformed(what));
    }
    Ok(Image {
        names: names(saved.repo_tags.as_deref().unwrap_or_default())?,
        config,
        config_name: saved.config,
        layers: layers.into_iter().zip(diff_ids).collect(),
    })
}

/// Creates the manifest that the format lacks.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_all_is_the_innermost_that_they_share() {
        for (names, directory) in [
            (&["a/b/c", "a/b/d/e"][..], "a/b"),
            (&["a/b/c", "a/bc/d"], "a"),
            (&["a/b", "c/d"], ""),
            (&["a"], ""),
            (&["a/b"], "a"),
            (&[], ""),
        ] {
            assert_eq!(directory_of_all(names.iter().copied()), directory, "{names:?}");
        }
    }

    #[test]
    fn a_configuration_that_is_called_by_its_digest_must_have_it() {
        let hex = "a".repeat(64);
        for name in [format!("{hex}.json"), format!("blobs/sha256/{hex}"), hex.clone()] {
            assert_eq!(claimed(&name).unwrap().hex(), hex);
        }
        assert_eq!(claimed("config.json"), None);
    }
}
