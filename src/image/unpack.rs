//! Unpacks layers into snapshots: each layer is unpacked on top of the one below it, once for all images that share it.
//!
//! A snapshot of finished layers is named by its chain id, which depends only on the diff ids of the layers. The result
//! of unpacking a layer is compared with the diff id in the image's configuration, so the content of a snapshot always
//! matches its name.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::Error;
use super::manifest::{DOCKER_LAYER, DOCKER_ZSTD, OCI_LAYER, OCI_NONDISTRIBUTABLE};
use super::scratch::{Scratch, discard, unique};
use crate::compression::{Compression, Foreign, MAGIC};
use crate::containerd::{self, Descriptor, Session};
use crate::{Context, Digest};

/// How long unpacking may take before the garbage collector may remove its unfinished work.
const EXPIRY: Duration = Duration::from_secs(3600);

/// The names of the snapshots after each layer: the first name is the layer's diff id, each further one is the digest
/// of the name below it and the layer's own diff id.
pub(super) fn chain_ids(diff_ids: &[Digest]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.to_string(),
            Some(below) => format!("sha256:{:x}", Sha256::digest(format!("{below} {diff_id}"))),
        };
        chain.push(next);
    }
    chain
}

/// The layers to unpack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unpacking<'a> {
    /// The name of the image, for messages.
    pub(super) image: &'a str,
    /// The blob of the configuration, which keeps the snapshots alive.
    pub(super) config: &'a Descriptor,
    /// The blobs of the layers, lowest first.
    pub(super) layers: &'a [Descriptor],
    /// The digests of the unpacked layers.
    pub(super) diff_ids: &'a [Digest],
}

/// Makes sure that the snapshot of all layers exists and that the image keeps it alive, and returns the name of the
/// snapshot. Returns `Ok(None)` if a layer that must be unpacked is not in the content store.
///
/// # Cancellation
/// Safe to drop: unfinished work is held by a lease that expires.
pub(super) async fn ensure(
    session: &Session,
    ctx: &Context,
    snapshotter: &str,
    what: Unpacking<'_>,
) -> Result<Option<String>, Error> {
    let fail = || Error::containerd(what.image);
    let chain = chain_ids(what.diff_ids);
    let Some(top) = chain.last() else {
        return Err(Error::malformed(what.image, "it has no layers"));
    };
    keep(session, ctx, snapshotter, what.config, top)
        .await
        .map_err(fail())?;
    if exists(session, ctx, snapshotter, top).await.map_err(fail())? {
        return Ok(Some(top.clone()));
    }
    for layer in what.layers {
        match session.content().info(ctx, &layer.digest).await {
            Err(why) if why.is_not_found() => return Ok(None),
            found => found.map_err(fail())?,
        };
    }
    let scratch = Scratch::take(session, ctx, ("unpack", what.image), EXPIRY)
        .await
        .map_err(fail())?;
    let unpacked = all(&scratch, ctx, snapshotter, what, &chain).await;
    scratch.release(ctx, unpacked.is_err()).await;
    unpacked.map(|()| Some(top.clone()))
}

/// Makes the configuration keep the snapshot alive. This happens before the snapshot exists, so that it is never
/// without a holder, and for each image separately, because images of different configurations share snapshots.
pub(super) async fn keep(
    session: &Session,
    ctx: &Context,
    snapshotter: &str,
    config: &Descriptor,
    top: &str,
) -> Result<(), containerd::Error> {
    let content = session.content();
    let key = format!("containerd.io/gc.ref.snapshot.{snapshotter}");
    let known = content.info(ctx, &config.digest).await?.labels;
    if known.get(&key).is_some_and(|known| known == top) {
        return Ok(());
    }
    let labels = BTreeMap::from([(key, top.to_owned())]);
    content.set_labels(ctx, &config.digest, &labels).await
}

async fn all(
    scratch: &Scratch,
    ctx: &Context,
    snapshotter: &str,
    what: Unpacking<'_>,
    chain: &[String],
) -> Result<(), Error> {
    let mut below: Option<&str> = None;
    for ((layer, diff_id), name) in what.layers.iter().zip(what.diff_ids).zip(chain) {
        if !held(scratch, ctx, snapshotter, what.image, name).await? {
            one(
                scratch,
                ctx,
                snapshotter,
                what.image,
                (layer, diff_id),
                (below, name),
            )
            .await?;
        }
        below = Some(name);
    }
    Ok(())
}

/// Whether a snapshot exists. If it does, the lease of `scratch` keeps it until the work is done.
pub(super) async fn held(
    scratch: &Scratch,
    ctx: &Context,
    snapshotter: &str,
    image: &str,
    name: &str,
) -> Result<bool, Error> {
    // Held first and checked second, so that it cannot be removed in between.
    scratch
        .hold(ctx, snapshotter, name)
        .await
        .map_err(Error::containerd(image))?;
    exists(&scratch.leased(), ctx, snapshotter, name)
        .await
        .map_err(Error::containerd(image))
}

/// Unpacks one layer into a snapshot named `name`, on top of `below`.
///
/// # Cancellation
/// Safe to drop: unfinished work is held by a lease that expires.
pub(super) async fn one(
    scratch: &Scratch,
    ctx: &Context,
    snapshotter: &str,
    image: &str,
    (layer, diff_id): (&Descriptor, &Digest),
    (below, name): (Option<&str>, &str),
) -> Result<(), Error> {
    let fail = || Error::containerd(image);
    let session = scratch.leased();
    let snapshots = session.snapshots(snapshotter);
    let key = unique("unpack");
    let labels = BTreeMap::from([("containerd.io/snapshot.ref".to_owned(), name.to_owned())]);
    let mounts = match snapshots.prepare(ctx, &key, below, &labels).await {
        // A snapshotter that fetches layers itself returns this error for a complete layer.
        Err(why) if why.is_already_exists() => return Ok(()),
        prepared => prepared.map_err(fail())?,
    };
    let applied = match session.diff().apply(ctx, &applicable(layer), &mounts).await {
        Err(why) if why.interrupted().is_none() => Err(match foreign(&session, ctx, layer).await {
            Some(Foreign { name, .. }) => {
                let what = format!(
                    "its layer {} is compressed with {name}, which containerd does not unpack",
                    layer.digest
                );
                Error::malformed(image, what)
            }
            None => fail()(why),
        }),
        applied => applied.map_err(fail()),
    };
    let done = match applied {
        Ok(found) if found.digest != *diff_id => Err(Error::WrongLayer {
            image: image.to_owned(),
            layer: layer.digest.to_string(),
            expected: diff_id.to_string(),
            found: found.digest.to_string(),
        }),
        // The lease may have been renewed while the layer was applied.
        Ok(_) => match scratch
            .leased()
            .snapshots(snapshotter)
            .commit(ctx, name, &key, &BTreeMap::new())
            .await
        {
            Ok(()) => return Ok(()),
            // Another task or process has unpacked the same layer, so this snapshot is not needed.
            Err(why) if why.is_already_exists() => Ok(()),
            Err(why) => Err(fail()(why)),
        },
        Err(why) => Err(why),
    };
    discard(&session, ctx, snapshotter, &key).await;
    done
}

/// The layer with a media type that containerd's differ accepts. Only newer versions have Docker's media type for zstd,
/// all have the one of OCI. A layer whose media type is Docker's bare tar is examined by the differ
/// (images.DiffCompression), but one whose media type is OCI's bare tar is not, although builders and registries have
/// used it for compressed layers.
fn applicable(layer: &Descriptor) -> Descriptor {
    let media_type = match layer.media_type.as_str() {
        DOCKER_ZSTD => format!("{OCI_LAYER}+zstd"),
        OCI_LAYER | OCI_NONDISTRIBUTABLE => DOCKER_LAYER.to_owned(),
        as_it_is => as_it_is.to_owned(),
    };
    Descriptor {
        media_type,
        ..layer.clone()
    }
}

/// The compression of a refused layer, if it is one that containerd does not support.
async fn foreign(session: &Session, ctx: &Context, layer: &Descriptor) -> Option<Foreign> {
    let head = session.content().head(ctx, &layer.digest, MAGIC).await.ok()?;
    match Compression::of(&head)? {
        Compression::Foreign(foreign) => Some(foreign),
        Compression::Gzip | Compression::Zstd => None,
    }
}

async fn exists(
    session: &Session,
    ctx: &Context,
    snapshotter: &str,
    name: &str,
) -> Result<bool, containerd::Error> {
    match session.snapshots(snapshotter).stat(ctx, name).await {
        Ok(_) => Ok(true),
        Err(why) if why.is_not_found() => Ok(false),
        Err(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_a_bare_tar_is_for_containerd_to_look_at() {
        for (called, given) in [
            (OCI_LAYER, DOCKER_LAYER),
            (OCI_NONDISTRIBUTABLE, DOCKER_LAYER),
            (DOCKER_LAYER, DOCKER_LAYER),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ),
            (DOCKER_ZSTD, "application/vnd.oci.image.layer.v1.tar+zstd"),
        ] {
            let layer = Descriptor {
                media_type: called.into(),
                digest: Digest::new(format!("sha256:{}", "a".repeat(64))).unwrap(),
                size: 1,
            };
            let expected = Descriptor {
                media_type: given.into(),
                ..layer.clone()
            };
            assert_eq!(applicable(&layer), expected);
        }
    }

    #[test]
    fn a_chain_id_covers_every_layer_below() {
        let diff_ids =
            ["a", "b", "c"].map(|digit| Digest::new(format!("sha256:{}", digit.repeat(64))).unwrap());
        let chain = chain_ids(&diff_ids);
        assert_eq!(chain[0], diff_ids[0].as_str());
        // printf 'sha256:aa… sha256:bb…' | sha256sum, and once more with the result.
        let second = Sha256::digest(format!("{} {}", diff_ids[0], diff_ids[1]));
        assert_eq!(chain[1], format!("sha256:{second:x}"));
        let third = Sha256::digest(format!("sha256:{second:x} {}", diff_ids[2]));
        assert_eq!(chain[2], format!("sha256:{third:x}"));
        assert_eq!(chain_ids(&[]), Vec::<String>::new());
    }
}
