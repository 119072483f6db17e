//! What exists of an image, whether it is complete or not. Nothing is unpacked for this.

use super::footprint::{Footprint, Part};
use super::manifest::{self, Layers};
use super::store::{MAX_DEPTH, read};
use super::unpack::chain_ids;
use super::{Error, ImageSettings, ImageStore, Platform};
use crate::containerd::{Descriptor, ImageRecord};
use crate::{Context, Digest};

/// The state of an image in the store.
#[derive(Debug, Clone)]
pub(crate) struct ImageContents {
    /// The disk space that it occupies.
    pub(crate) footprint: Footprint,
    /// The manifest for this machine and its contents; `None` if there is none, or a document that leads to it is
    /// missing.
    pub(crate) manifest: Option<Found>,
    /// The first missing part.
    pub(crate) missing: Option<Digest>,
}

/// A manifest with its parsed contents.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The manifest.
    pub(crate) manifest: Descriptor,
    /// The configuration; its digest is the image's id.
    pub(crate) config: Descriptor,
    /// The blobs of the layers, lowest first.
    pub(crate) layers: Vec<Descriptor>,
    /// The digests of the unpacked layers; empty if the configuration is missing.
    pub(crate) diff_ids: Vec<Digest>,
    /// The settings in the configuration; `None` if it is missing.
    pub(crate) settings: Option<ImageSettings>,
}

impl ImageStore {
    /// Inspects the image of a record. Of an index, only the manifest for this machine is counted.
    ///
    /// # Errors
    /// [`Error::Malformed`] for documents that cannot be parsed.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn contents(&self, ctx: &Context, record: &ImageRecord) -> Result<ImageContents, Error> {
        let name = &record.name;
        let malformed = |what: String| Error::malformed(name, what);
        let mut contents = ImageContents::nothing();
        let mut at = record.target.clone();
        for _ in 0..MAX_DEPTH {
            let Some(json) = contents.document(self, ctx, name, &at).await? else {
                break;
            };
            let mut document = manifest::parse(&json).map_err(malformed)?;
            let Some(links) = document.manifests.take() else {
                let layers = manifest::layers(document).map_err(malformed)?;
                contents.manifest(self, ctx, name, at, layers).await?;
                break;
            };
            let Ok(link) = manifest::choose(&links, &Platform::host()) else {
                break;
            };
            at = link.descriptor().map_err(malformed)?;
        }
        Ok(contents)
    }
}

impl ImageContents {
    /// The state of an image whose documents cannot be parsed.
    pub(super) fn nothing() -> Self {
        Self {
            footprint: Footprint::default(),
            manifest: None,
            missing: None,
        }
    }

    async fn document(
        &mut self,
        store: &ImageStore,
        ctx: &Context,
        name: &str,
        blob: &Descriptor,
    ) -> Result<Option<Vec<u8>>, Error> {
        let json = read(ctx, &store.session, name, blob).await?;
        match &json {
            Some(json) => self
                .footprint
                .parts
                .push((Part::Blob(blob.digest.clone()), json.len() as u64)),
            None => self.lacks(&blob.digest),
        }
        Ok(json)
    }

    async fn manifest(
        &mut self,
        store: &ImageStore,
        ctx: &Context,
        name: &str,
        manifest: Descriptor,
        layers: Layers,
    ) -> Result<(), Error> {
        let Layers { config, layers } = layers;
        let json = self.document(store, ctx, name, &config).await?;
        let (mut settings, mut diff_ids) = (None, Vec::new());
        if let Some(json) = json {
            let (said, ids) = manifest::config(&json).map_err(|what| Error::malformed(name, what))?;
            (settings, diff_ids) = (Some(said), ids);
            let snapshots = store.session.snapshots(&store.snapshotter);
            for key in chain_ids(&diff_ids) {
                match snapshots.usage(ctx, &key).await {
                    // The layer was fetched, but is not unpacked yet.
                    Err(why) if why.is_not_found() => {}
                    usage => {
                        let (bytes, _) = usage.map_err(Error::containerd(name))?;
                        self.footprint.parts.push((Part::Snapshot(key), bytes));
                    }
                }
            }
        }
        for layer in &layers {
            match store.session.content().info(ctx, &layer.digest).await {
                Err(why) if why.is_not_found() => self.lacks(&layer.digest),
                info => {
                    let size = info.map_err(Error::containerd(name))?.size;
                    self.footprint
                        .parts
                        .push((Part::Blob(layer.digest.clone()), size));
                }
            }
        }
        self.manifest = Some(Found {
            manifest,
            config,
            layers,
            diff_ids,
            settings,
        });
        Ok(())
    }

    fn lacks(&mut self, digest: &Digest) {
        self.missing.get_or_insert_with(|| digest.clone());
    }
}
