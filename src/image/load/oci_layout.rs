//! The OCI image layout in a tar file, which is also what `docker save` writes since Docker 25.
//!
//! `index.json` points to blobs by digest. Blobs for other platforms may be missing, as they are for an image that was
//! pulled for only one platform. A layout that lacks everything of an image is ignored, and the archive is then read in
//! Docker's older format if possible.
//!
//! An entry of the index need not be an image, need not be for this platform, and need not have a name. [`choose`]
//! decides first which entries are loaded; the others are reported.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;

use super::docker_archive;
use super::import::{BlobSource, Expected, Import, Imported, Imports, PassedOver};
use crate::Digest;
use crate::containerd::Descriptor;
use crate::image::manifest::{self, Link, OCI_CONFIG, digest_of};
use crate::image::store::MAX_JSON;
use crate::image::{Error, Platform, Reference};

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
/// Annotations with the name of an image; the first always contains a full name.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
const MAX_DEPTH: usize = 4;

/// A document whose blobs are all in the archive. It is written after the documents to which it refers.
struct Document {
    blob: Descriptor,
    json: Vec<u8>,
    refers_to: BTreeMap<String, Digest>,
}

/// A blob that the archive lacks.
struct Missing(String);

/// The inner result matters to this format; an outer error ends the import.
type Found<T> = Result<Result<T, Missing>, Error>;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The parts of an image, in the order in which they can be written.
#[derive(Default)]
struct Parts {
    files: Vec<BlobSource>,
    documents: Vec<Document>,
}

/// An entry of `index.json`, with the name that it assigns.
#[derive(Debug, Clone)]
struct Entry {
    link: Link,
    name: Option<Reference>,
}

/// Imports the archive; `None` if it is not a complete OCI layout.
pub(super) async fn import(import: &Import<'_>) -> Result<Option<Imports>, Error> {
    if import.archive.file(LAYOUT).is_none() {
        return Ok(None);
    }
    let Some(json) = import.archive.read(INDEX, MAX_JSON).await? else {
        return Ok(None);
    };
    let index = manifest::parse(&json).map_err(|what| import.malformed(what))?;
    let links = index.manifests.unwrap_or_default();
    let is_dockers = import.archive.file(docker_archive::MANIFEST).is_some();
    if links.is_empty() && is_dockers {
        return Ok(None);
    }
    let mut entries = Vec::new();
    for link in links {
        let name = name_of(import, &link)?;
        entries.push(Entry { link, name });
    }
    let (chosen, passed_over) = choose(entries, &Platform::host())?;
    let mut imports = Imports {
        images: Vec::new(),
        passed_over,
    };
    let tags = docker_archive::tags(import).await?;
    let mut parts = Parts::default();
    for entry in chosen {
        match one(import, &entry, &tags, &mut parts).await? {
            Ok(Ok(image)) => imports.images.push(image),
            Ok(Err(why)) => imports.passed_over.push(entry.passed_over(why)),
            Err(Missing(_)) if is_dockers => return Ok(None),
            Err(Missing(missing)) if entry.name.is_none() => {
                let why = format!("the archive lacks its {missing}");
                imports.passed_over.push(entry.passed_over(why));
            }
            Err(Missing(missing)) => return Err(import.incomplete(missing)),
        }
    }
    write(import, parts).await?;
    Ok(Some(imports))
}

/// Collects the image of an entry, or returns why it is not loaded.
async fn one(
    import: &Import<'_>,
    entry: &Entry,
    tags: &HashMap<Digest, Vec<Reference>>,
    parts: &mut Parts,
) -> Found<Result<Imported, String>> {
    let target = entry.link.descriptor().map_err(|what| import.malformed(what))?;
    let mut names: Vec<_> = entry.name.iter().cloned().collect();
    if let Some(json) = import.archive.read(&blob_path(&target.digest), MAX_JSON).await? {
        let document = manifest::parse(&json).map_err(|what| import.malformed(what))?;
        if let Some(kind) = manifest::artifact(&document) {
            return Ok(Ok(Err(format!("it is no image, but has {kind}"))));
        }
        let config = document.config.filter(|_| names.is_empty());
        let config = config.and_then(|config| Digest::new(config.digest).ok());
        names.extend(
            config
                .and_then(|config| tags.get(&config))
                .into_iter()
                .flatten()
                .cloned(),
        );
    }
    let mut own = Parts::default();
    Ok(collect(import, &entry.link, MAX_DEPTH, &mut own)
        .await?
        .map(|()| {
            parts.files.append(&mut own.files);
            parts.documents.append(&mut own.documents);
            Ok(Imported { names, target })
        }))
}

/// Writes the blobs, and then each document after the documents to which it refers.
async fn write(import: &Import<'_>, parts: Parts) -> Result<(), Error> {
    import.blobs(parts.files).await?;
    for document in parts.documents {
        let Document {
            blob,
            json,
            refers_to,
        } = document;
        let name = blob_path(&blob.digest);
        import
            .document(&name, &blob.media_type, &json, &refers_to)
            .await?;
    }
    Ok(())
}

impl Entry {
    fn passed_over(&self, why: impl Into<String>) -> PassedOver {
        let digest = || self.link.digest.clone();
        PassedOver {
            what: self.name.as_ref().map_or_else(digest, ToString::to_string),
            why: why.into(),
        }
    }

    /// Whether the entry specifies no platform, or one that this machine can run.
    fn fits(&self, host: &Platform) -> bool {
        self.link
            .platform
            .as_ref()
            .is_none_or(|made| host.rank(made).is_some())
    }
}

/// Chooses the entries to load. Of entries with the same name, this is the one that suits this machine best; of entries
/// without a name, all that suit it, or all of them if none does. Fails if a name has entries only for other platforms.
fn choose(entries: Vec<Entry>, host: &Platform) -> Result<(Vec<Entry>, Vec<PassedOver>), Error> {
    let (mut chosen, mut passed_over): (Vec<Entry>, Vec<PassedOver>) = (Vec::new(), Vec::new());
    let (images, others): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|entry| entry.link.is_manifest() || entry.link.is_index());
    for entry in others {
        let why = format!("its media type is {:?}", entry.link.media_type);
        passed_over.push(entry.passed_over(why));
    }
    let any_fits = images.iter().any(|entry| entry.fits(host));
    for entry in &images {
        let same = |other: &&Entry| other.name == entry.name && other.link.digest == entry.link.digest;
        if chosen.iter().any(|other| same(&other)) {
            continue;
        }
        let Some(name) = &entry.name else {
            match &entry.link.platform {
                Some(made) if any_fits && !entry.fits(host) => {
                    passed_over.push(entry.passed_over(format!("it is for {made}")));
                }
                _ => chosen.push(entry.clone()),
            }
            continue;
        };
        let named = images.iter().filter(|other| other.name.as_ref() == Some(name));
        let links: Vec<Link> = named.map(|other| other.link.clone()).collect();
        if links.iter().all(|link| link.digest == entry.link.digest) {
            chosen.push(entry.clone());
            continue;
        }
        let best = manifest::choose(&links, host).map_err(|found| Error::OtherPlatform {
            image: name.to_string(),
            wanted: host.to_string(),
            found,
        })?;
        if best.digest == entry.link.digest {
            chosen.push(entry.clone());
        } else {
            let digest = &entry.link.digest;
            passed_over.push(entry.passed_over(format!(
                "{digest} has the same name, and {} suits this machine better",
                best.digest
            )));
        }
    }
    Ok((chosen, passed_over))
}

fn name_of(import: &Import<'_>, link: &Link) -> Result<Option<Reference>, Error> {
    let annotations = link.annotations.as_ref();
    let name = NAMES
        .iter()
        .find_map(|key| annotations?.get(*key).filter(|name| !name.is_empty()));
    let Some(name) = name.map(|name| Reference::parse(name)).transpose()? else {
        return Ok(None);
    };
    match name.digest() {
        Some(digest) if digest.as_str() != link.digest => {
            let what = format!("it gives the name {name} to {}", link.digest);
            Err(import.malformed(what))
        }
        _ => Ok(Some(name)),
    }
}

/// Collects the parts of `link`. The inner error contains what is missing.
fn collect<'a>(
    import: &'a Import<'_>,
    link: &'a Link,
    depth: usize,
    parts: &'a mut Parts,
) -> Boxed<'a, Found<()>> {
    Box::pin(async move {
        let blob = link.descriptor().map_err(|what| import.malformed(what))?;
        let name = blob_path(&blob.digest);
        let Some(json) = read(import, &name, &blob).await? else {
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

/// The existing manifests of an index; at least one must exist.
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
    let Some(json) = read(import, &config_name, &content.config).await? else {
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
        files.push(BlobSource {
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

/// A document whose digest and size match the descriptor that refers to it.
async fn read(import: &Import<'_>, name: &str, blob: &Descriptor) -> Result<Option<Vec<u8>>, Error> {
    let Some(json) = import.archive.read(name, MAX_JSON).await? else {
        return Ok(None);
    };
    if digest_of(&json).as_ref() != Some(&blob.digest) {
        return Err(import.corrupt(name));
    }
    import.sized(name, blob.size, json.len() as u64)?;
    Ok(Some(json))
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::{OCI_INDEX, OCI_MANIFEST};

    fn entry(digit: &str, name: Option<&str>, platform: Option<&str>) -> Entry {
        Entry {
            link: Link {
                media_type: OCI_MANIFEST.into(),
                digest: format!("sha256:{}", digit.repeat(64)),
                size: 1,
                annotations: None,
                platform: platform.map(|text| Platform::parse(text).unwrap()),
            },
            name: name.map(|name| Reference::parse(name).unwrap()),
        }
    }

    fn chosen(entries: &[Entry]) -> (String, Vec<String>) {
        let host = Platform::parse("linux/amd64").unwrap();
        let (chosen, passed_over) = choose(entries.to_vec(), &host).unwrap();
        let digits = chosen
            .iter()
            .map(|entry| &entry.link.digest["sha256:".len()..][..1]);
        (
            digits.collect(),
            passed_over.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn what_suits_this_machine_is_chosen_and_the_rest_is_reported() {
        let (amd, arm) = (Some("linux/amd64"), Some("linux/arm64"));
        let (none, a) = (None, Some("r.io/a:1"));
        assert_eq!(chosen(&[entry("1", none, none), entry("2", a, none)]).0, "12");
        let (digits, told) = chosen(&[entry("1", none, arm), entry("2", none, amd)]);
        assert_eq!((digits.as_str(), told.len()), ("2", 1));
        assert!(
            told[0].starts_with("sha256:111") && told[0].ends_with(": it is for linux/arm64"),
            "{told:?}"
        );
        assert_eq!(
            chosen(&[entry("1", none, arm)]),
            ("1".into(), vec![]),
            "it is all there is"
        );
        for order in [["1", "2"], ["2", "1"]] {
            let machine = |digit| if digit == "1" { arm } else { amd };
            let both = order.map(|digit| entry(digit, a, machine(digit)));
            let (digits, told) = chosen(&both);
            assert_eq!((digits.as_str(), told.len()), ("2", 1), "{order:?}");
            assert!(told[0].starts_with("r.io/a:1: sha256:111"), "{told:?}");
        }
        let twice = [
            entry("1", a, none),
            entry("1", a, none),
            entry("1", Some("r.io/b:1"), none),
        ];
        assert_eq!(chosen(&twice), ("11".into(), vec![]), "one of two names");
        let mut other = entry("3", none, none);
        other.link.media_type = "application/vnd.acme.rocket+json".into();
        let (digits, told) = chosen(&[other, entry("1", none, none)]);
        assert!(digits == "1" && told[0].contains("vnd.acme.rocket"), "{told:?}");
        let mut index = entry("4", a, none);
        index.link.media_type = OCI_INDEX.into();
        assert_eq!(chosen(&[index]).0, "4");
    }

    #[test]
    fn a_name_only_for_other_machines_is_refused_with_their_names() {
        let a = Some("r.io/a:1");
        let entries = vec![
            entry("1", a, Some("linux/arm64")),
            entry("2", a, Some("linux/s390x")),
        ];
        let host = Platform::parse("linux/amd64").unwrap();
        let why = choose(entries, &host).unwrap_err().to_string();
        assert_eq!(
            why,
            "image r.io/a:1 has no variant for linux/amd64, only for linux/arm64, linux/s390x"
        );
    }
}
