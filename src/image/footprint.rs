//! What an image occupies: blobs in the content store, and snapshots. Each of them may be shared with other images.

use super::manifest::{self, Layers};
use super::store::{MAX_DEPTH, read};
use super::unpack::chain_ids;
use super::{Error, ImageStore, Platform};
use crate::containerd::ImageRecord;
use crate::{Context, Digest};

/// Something on disk that images can share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A blob of the content store.
    Blob(Digest),
    /// A snapshot, by its key.
    Snapshot(String),
}

/// What an image occupies. A part that is not there is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// With sizes in bytes.
    pub(crate) parts: Vec<(Part, u64)>,
}

impl ImageStore {
    /// What the image of a record occupies now. An index counts with the manifest of this machine.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn footprint(&self, ctx: &Context, record: &ImageRecord) -> Result<Footprint, Error> {
        let name = &record.name;
        let malformed = |what: String| Error::malformed(name, what);
        let mut parts = Vec::new();
        let mut at = record.target.clone();
        for _ in 0..MAX_DEPTH {
            let Some(json) = read(ctx, &self.session, name, &at).await? else {
                break;
            };
            parts.push((Part::Blob(at.digest.clone()), json.len() as u64));
            let mut document = manifest::parse(&json).map_err(malformed)?;
            if let Some(links) = document.manifests.take() {
                let Ok(link) = manifest::choose(&links, &Platform::host()) else {
                    break;
                };
                at = link.descriptor().map_err(malformed)?;
                continue;
            }
            let Layers { config, layers } = manifest::layers(document).map_err(malformed)?;
            for layer in &layers {
                match self.session.content().info(ctx, &layer.digest).await {
                    Err(why) if why.is_not_found() => {}
                    info => {
                        let info = info.map_err(Error::containerd(name))?;
                        parts.push((Part::Blob(layer.digest.clone()), info.size));
                    }
                }
            }
            if let Some(json) = read(ctx, &self.session, name, &config).await? {
                parts.push((Part::Blob(config.digest.clone()), json.len() as u64));
                let (_, diff_ids) = manifest::config(&json).map_err(malformed)?;
                parts.extend(self.snapshots(ctx, name, &diff_ids).await?);
            }
            break;
        }
        Ok(Footprint { parts })
    }

    async fn snapshots(
        &self,
        ctx: &Context,
        name: &str,
        diff_ids: &[Digest],
    ) -> Result<Vec<(Part, u64)>, Error> {
        let snapshots = self.session.snapshots(&self.snapshotter);
        let mut parts = Vec::new();
        for key in chain_ids(diff_ids) {
            match snapshots.usage(ctx, &key).await {
                Err(why) if why.is_not_found() => {}
                usage => {
                    let (bytes, _) = usage.map_err(Error::containerd(name))?;
                    parts.push((Part::Snapshot(key), bytes));
                }
            }
        }
        Ok(parts)
    }
}
