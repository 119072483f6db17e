//! Resolves a name: to the manifest for one platform, and to the configuration of the image.
//!
//! A document in the content store is read from there; then a tag costs only one HEAD, which does not count towards the
//! rate limit of any registry. A document from the registry is verified, and keeps alive what it refers to.

use std::collections::BTreeMap;

use super::work::Work;
use crate::containerd::Descriptor;
use crate::image::manifest::{self, Layers, Manifest};
use crate::image::registry::Meaning;
use crate::image::scratch::unique;
use crate::image::store::MAX_DEPTH;
use crate::image::{Error, ImageSettings, MAX_JSON, Platform};
use crate::{Context, Digest};

/// containerd's label for the repository from which a blob was fetched.
pub(super) const SOURCE: &str = "containerd.io/distribution.source.";
/// containerd's label for the blobs that a blob keeps alive.
pub(super) const KEEPS: &str = "containerd.io/gc.ref.content.";
/// The longest label that containerd accepts, name and value together.
const MAX_LABEL: usize = 4096;

/// The image that a name refers to.
#[derive(Debug)]
pub(super) struct Resolved {
    /// The index or manifest that the name refers to.
    pub(super) target: Descriptor,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
    pub(super) diff_ids: Vec<Digest>,
    pub(super) settings: ImageSettings,
}

/// A parsed document.
struct Document {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    manifest: Manifest,
}

/// Finds out what must be fetched. Afterwards all documents of the image are in the content store, and the lease holds
/// them.
///
/// # Cancellation
/// Safe to drop: the lease holds what was written.
pub(super) async fn resolve(work: &Work, ctx: &Context) -> Result<Resolved, Error> {
    let malformed = |what: String| Error::malformed(&work.job.name, what);
    let mut document = top(work, ctx).await?;
    let target = document.descriptor.clone();
    work.job.reporter.target(&target.digest);
    let wanted = work.platform();
    // The platform in an index takes precedence over the one in the image's configuration, because older configurations
    // lack the variant.
    let mut told = false;
    for _ in 0..MAX_DEPTH {
        let Some(links) = document.manifest.manifests.take() else {
            return complete(work, ctx, target, document, !told).await;
        };
        let link = manifest::choose(&links, &wanted).map_err(|found| other(work, &wanted, found))?;
        told |= link.platform.is_some();
        let child = link.descriptor().map_err(malformed)?;
        let at = links.iter().position(|one| one.digest == link.digest);
        let keeps = BTreeMap::from([(
            format!("{KEEPS}m.{}", at.unwrap_or_default()),
            child.digest.to_string(),
        )]);
        write(work, ctx, &document.descriptor, &document.bytes, keeps).await?;
        document = by_digest(work, ctx, &child).await?;
        sized(work, "its index", "manifest", &child, &document.bytes)?;
    }
    Err(malformed("its index points to indexes without end".to_owned()))
}

/// The document that the name itself refers to.
async fn top(work: &Work, ctx: &Context) -> Result<Document, Error> {
    let reference = &work.job.request.reference;
    if let Some(digest) = reference.digest() {
        let unknown = Descriptor {
            media_type: String::new(),
            digest: digest.clone(),
            size: 0,
        };
        return by_digest(work, ctx, &unknown).await;
    }
    let tag = reference.tag().unwrap_or_default();
    let sent = match work.repository.resolve(ctx, tag).await? {
        Meaning::Sent(sent) => sent,
        Meaning::Described(described) => match by_digest(work, ctx, &described).await {
            // Some registries answer a HEAD with a digest under which they cannot find the manifest. Then the answer to
            // a GET of the tag decides.
            Err(Error::Registry(why)) if why.status() == Some(404) => {
                tracing::debug!(why = %crate::chain(&why), "a registry does not have the digest that it returned for a tag; trying a GET");
                work.repository.sent(ctx, tag).await?
            }
            document => return document,
        },
    };
    read(work, sent.descriptor, sent.bytes)
}

/// A document from the store, or else from the registry. The descriptor's media type and size may be unknown.
async fn by_digest(work: &Work, ctx: &Context, wanted: &Descriptor) -> Result<Document, Error> {
    if let Some((size, bytes)) = stored(work, ctx, &wanted.digest).await? {
        let descriptor = Descriptor {
            size,
            ..wanted.clone()
        };
        return read(work, descriptor, bytes);
    }
    if wanted.size > MAX_JSON {
        let what = format!(
            "its manifest of {} bytes is larger than the {MAX_JSON} that are allowed",
            wanted.size
        );
        return Err(Error::malformed(&work.job.name, what));
    }
    let digest = &wanted.digest;
    let sent = work.repository.manifest(ctx, digest).await?;
    read(work, sent.descriptor, sent.bytes)
}

fn read(work: &Work, mut descriptor: Descriptor, bytes: Vec<u8>) -> Result<Document, Error> {
    let malformed = |what| Error::malformed(&work.job.name, what);
    let manifest = manifest::parse(&bytes).map_err(malformed)?;
    descriptor.media_type = manifest::kind(&descriptor.media_type, &manifest).map_err(malformed)?;
    Ok(Document {
        descriptor,
        bytes,
        manifest,
    })
}

/// Completes the result with the configuration.
async fn complete(
    work: &Work,
    ctx: &Context,
    target: Descriptor,
    document: Document,
    by_itself: bool,
) -> Result<Resolved, Error> {
    let malformed = |what| Error::malformed(&work.job.name, what);
    let Document {
        descriptor,
        bytes,
        manifest,
    } = document;
    let Layers { config, layers } = manifest::layers(manifest).map_err(malformed)?;
    if let Some(layer) = layers.iter().find(|layer| !manifest::is_layer(&layer.media_type)) {
        let what = format!(
            "its layer {} has the media type {}, which cannot be unpacked",
            layer.digest, layer.media_type
        );
        return Err(malformed(what));
    }
    let mut keeps = BTreeMap::from([(format!("{KEEPS}config"), config.digest.to_string())]);
    keeps.extend(
        layers
            .iter()
            .enumerate()
            .map(|(at, layer)| (format!("{KEEPS}l.{at}"), layer.digest.to_string())),
    );
    // The labels that keep blobs alive are written before the blobs.
    write(work, ctx, &descriptor, &bytes, keeps).await?;
    let json = match stored(work, ctx, &config.digest).await? {
        Some((_, json)) => {
            sized(work, "its manifest", "configuration", &config, &json)?;
            json
        }
        None => {
            if config.size > MAX_JSON {
                let what = format!(
                    "its configuration of {} bytes is larger than the {MAX_JSON} that are allowed",
                    config.size
                );
                return Err(malformed(what));
            }
            let json = work.repository.small(ctx, &config).await?;
            sized(work, "its manifest", "configuration", &config, &json)?;
            write(work, ctx, &config, &json, BTreeMap::new()).await?;
            json
        }
    };
    let (settings, diff_ids) = manifest::config(&json).map_err(malformed)?;
    if by_itself {
        check_platform(work, &settings)?;
    }
    if diff_ids.len() != layers.len() {
        let what = format!("{} layers, but {} diff ids", layers.len(), diff_ids.len());
        return Err(malformed(what));
    }
    Ok(Resolved {
        target,
        config,
        layers,
        diff_ids,
        settings,
    })
}

/// An image without an index contains its platform in its configuration.
fn check_platform(work: &Work, settings: &ImageSettings) -> Result<(), Error> {
    if settings.architecture.is_empty() || settings.os.is_empty() {
        return Ok(());
    }
    let made = Platform {
        os: settings.os.clone(),
        architecture: settings.architecture.clone(),
        variant: settings.variant.clone(),
    };
    let wanted = work.platform();
    match wanted.rank(&made) {
        Some(_) => Ok(()),
        None => Err(other(work, &wanted, made.to_string())),
    }
}

fn other(work: &Work, wanted: &Platform, found: String) -> Error {
    Error::OtherPlatform {
        image: work.job.name.clone(),
        wanted: wanted.to_string(),
        found,
    }
}

/// The size of a document must match the descriptor that refers to it: containerd accepts no other size.
fn sized(work: &Work, says: &str, what: &str, blob: &Descriptor, bytes: &[u8]) -> Result<(), Error> {
    let (said, got) = (blob.size, bytes.len());
    if said == got as u64 {
        return Ok(());
    }
    let what = format!(
        "{says} lists {what} {} with {said} bytes, but the content has {got}",
        blob.digest
    );
    Err(Error::malformed(&work.job.name, what))
}

/// A small blob of the content store with its size, or `None` if the store does not have it.
async fn stored(work: &Work, ctx: &Context, digest: &Digest) -> Result<Option<(u64, Vec<u8>)>, Error> {
    let fail = || Error::containerd(&work.job.name);
    // Held first and checked second, so that a blob which exists now is kept.
    work.scratch.hold_blob(ctx, digest).await.map_err(fail())?;
    let content = work.scratch.leased().content();
    let size = match content.info(ctx, digest).await {
        Err(why) if why.is_not_found() => return Ok(None),
        info => info.map_err(fail())?.size,
    };
    let blob = Descriptor {
        media_type: String::new(),
        digest: digest.clone(),
        size,
    };
    match content.read(ctx, &blob, MAX_JSON).await {
        // The store has a record of the blob, but its file was removed by something other than containerd.
        Err(why) if why.is_not_found() => Ok(None),
        bytes => Ok(Some((size, bytes.map_err(fail())?))),
    }
}

/// Writes a document with the labels of the blobs that it keeps alive. If the document exists, only adds the labels.
async fn write(
    work: &Work,
    ctx: &Context,
    blob: &Descriptor,
    bytes: &[u8],
    keeps: BTreeMap<String, String>,
) -> Result<(), Error> {
    let fail = || Error::containerd(&work.job.name);
    let mut labels = keeps.clone();
    labels.extend(source(work));
    let content = work.scratch.leased().content();
    content
        .write(ctx, &unique("pull"), blob, &labels, bytes)
        .await
        .map_err(fail())?;
    // A document that existed already may have been written without these labels, or fetched from another repository.
    let mut labels = keeps;
    if let Some((label, path)) = source(work) {
        let known = content.info(ctx, &blob.digest).await.map_err(fail())?.labels;
        let all = also(known.get(&label).map(String::as_str), path);
        labels.extend(
            all.filter(|all| label.len() + all.len() < MAX_LABEL)
                .map(|all| (label, all)),
        );
    }
    content
        .set_labels(ctx, &blob.digest, &labels)
        .await
        .map_err(fail())
}

/// The repositories of a registry from which a blob was fetched, with one more, in the format of containerd's own
/// clients; `None` if the repository is listed already.
fn also(known: Option<&str>, path: String) -> Option<String> {
    match known.filter(|known| !known.is_empty()) {
        None => Some(path),
        Some(known) if known.split(',').any(|one| one == path) => None,
        Some(known) => Some(format!("{known},{path}")),
    }
}

/// The repository of a blob, as containerd's own clients record it.
pub(super) fn source(work: &Work) -> Option<(String, String)> {
    let label = format!("{SOURCE}{}", work.repository.registry());
    let value = work.repository.path().to_owned();
    (label.len() + value.len() < MAX_LABEL).then_some((label, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_listed_once() {
        assert_eq!(also(None, "a".into()).as_deref(), Some("a"));
        assert_eq!(also(Some(""), "a".into()).as_deref(), Some("a"));
        assert_eq!(also(Some("b,ab"), "a".into()).as_deref(), Some("b,ab,a"));
        assert_eq!(also(Some("b,a"), "a".into()), None);
    }
}
