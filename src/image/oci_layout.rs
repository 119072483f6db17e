//! The OCI image layout in a tar file, which is also what `docker save` writes since Docker 25.
//!
//! `index.json` points to blobs by digest. Blobs for other platforms may be missing, as they are in an image that was
//! pulled for one platform only; a layout that lacks everything of an image counts as none, and the archive is then read
//! in Docker's older way if it can be.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use super::load::{Expected, Import, Imported, Wanted};
use super::manifest::{self, Link, OCI_CONFIG};
use super::store::MAX_JSON;
use super::{Error, Reference};
use crate::Digest;
use crate::containerd::Descriptor;

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
/// Both say an image's name; the first is always a full one.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
const MAX_DEPTH: usize = 4;

/// A document whose blobs are all in the archive, after those that it refers to.
struct Document {
    blob: Descriptor,
    json: Vec<u8>,
    refers_to: BTreeMap<String, Digest>,
}

/// A blob that the archive lacks.
struct Missing(String);

/// The inner result is what matters to the format, the outer one ends the import.
type Found<T> = Result<Result<T, Missing>, Error>;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What an image is made of, in the order in which it can be written.
#[derive(Default)]
struct Parts {
    files: Vec<Wanted>,
    documents: Vec<Document>,
}

/// `None` if the archive is no complete OCI layout.
pub(super) async fn import(import: &Import<'_>) -> Result<Option<Vec<Imported>>, Error> {
    if import.archive.file(LAYOUT).is_none() {
        return Ok(None);
    }
    let Some(json) = import.archive.read(INDEX, MAX_JSON).await? else {
        return Ok(None);
    };
    let index = manifest::parse(&json).map_err(|what| import.malformed(what))?;
    let mut parts = Parts::default();
    let mut images = Vec::new();
    for link in index.manifests.unwrap_or_default() {
        let Some(name) = name_of(&link)? else { continue };
        if let Err(Missing(missing)) = collect(import, &link, MAX_DEPTH, &mut parts).await? {
            if import.archive.file("manifest.json").is_some() {
                return Ok(None);
            }
            return Err(import.incomplete(missing));
        }
        images.push(Imported {
            names: vec![name],
            target: link.descriptor().map_err(|what| import.malformed(what))?,
        });
    }
    import.blobs(parts.files).await?;
    for document in parts.documents {
        let Document {
            blob,
            json,
            refers_to,
        } = document;
        let name = blob_path(&blob.digest);
        let written = import
            .document(&name, &blob.media_type, &json, &refers_to)
            .await?;
        if written.digest != blob.digest {
            return Err(import.corrupt(&name));
        }
    }
    Ok(Some(images))
}

fn name_of(link: &Link) -> Result<Option<Reference>, Error> {
    let annotations = link.annotations.as_ref();
    let name = NAMES
        .iter()
        .find_map(|key| annotations?.get(*key).filter(|name| !name.is_empty()));
    Ok(name.map(|name| Reference::parse(name)).transpose()?)
}

/// Collects what `link` is made of. The inner error names what is missing.
fn collect<'a>(
    import: &'a Import<'_>,
    link: &'a Link,
    depth: usize,
    parts: &'a mut Parts,
) -> Boxed<'a, Found<()>> {
    Box::pin(async move {
        let blob = link.descriptor().map_err(|what| import.malformed(what))?;
        let name = blob_path(&blob.digest);
        let Some(json) = import.archive.read(&name, MAX_JSON).await? else {
            return Ok(Err(Missing(name)));
        };
        let mut document = manifest::parse(&json).map_err(|what| import.malformed(what))?;
        let found = match document.manifests.take() {
            Some(links) if depth > 0 => children(import, &links, depth, parts).await?,
            Some(_) => return Err(import.malformed("its index points to indexes without end")),
            None => leaf(import, document, parts).await?,
        };
        Ok(found.map(|refers_to| {
            parts.documents.push(Document {
                blob,
                json,
                refers_to,
            });
        }))
    })
}

/// What an index refers to, as far as it is there; something must be.
async fn children(
    import: &Import<'_>,
    links: &[Link],
    depth: usize,
    parts: &mut Parts,
) -> Found<BTreeMap<String, Digest>> {
    let mut refers_to = BTreeMap::new();
    let mut lacks = None;
    for (n, link) in links.iter().enumerate() {
        if !link.is_index() && !link.is_manifest() {
            continue;
        }
        let mut child = Parts::default();
        match collect(import, link, depth - 1, &mut child).await? {
            Ok(()) => {
                parts.files.append(&mut child.files);
                parts.documents.append(&mut child.documents);
                let blob = link.descriptor().map_err(|what| import.malformed(what))?;
                refers_to.insert(format!("m.{n}"), blob.digest);
            }
            Err(missing) => lacks = lacks.or(Some(missing)),
        }
    }
    Ok(if refers_to.is_empty() {
        Err(lacks.unwrap_or_else(|| Missing("any manifest".to_owned())))
    } else {
        Ok(refers_to)
    })
}

/// The configuration and the layers of a manifest.
async fn leaf(
    import: &Import<'_>,
    document: manifest::Manifest,
    parts: &mut Parts,
) -> Found<BTreeMap<String, Digest>> {
    let content = manifest::layers(document).map_err(|what| import.malformed(what))?;
    let config_name = blob_path(&content.config.digest);
    let Some(json) = import.archive.read(&config_name, MAX_JSON).await? else {
        return Ok(Err(Missing(config_name)));
    };
    let mut refers_to = BTreeMap::from([("config".to_owned(), content.config.digest.clone())]);
    let mut files = Vec::new();
    for (n, layer) in content.layers.into_iter().enumerate() {
        let name = blob_path(&layer.digest);
        let Some(entry) = import.archive.file(&name) else {
            return Ok(Err(Missing(name)));
        };
        refers_to.insert(format!("l.{n}"), layer.digest.clone());
        files.push(Wanted {
            entry,
            name,
            is: Expected::Blob(layer),
        });
    }
    parts.files.append(&mut files);
    parts.documents.push(Document {
        blob: Descriptor {
            media_type: OCI_CONFIG.to_owned(),
            ..content.config
        },
        json,
        refers_to: BTreeMap::new(),
    });
    Ok(Ok(refers_to))
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
