//! Images without a name. containerd keeps only images that a record names, so an image that came without a name gets a
//! record with a name derived from its digest. Like any other name, it can be used to run and to remove the image.
//!
//! The record exists as long as the image has no other name.

use super::{Error, ImageStore};
use crate::containerd::{ImageRecord, Session};
use crate::{Context, Digest};

/// `localhost`, because no registry is asked for it: an image of this name is only ever looked for on this host.
const REPOSITORY: &str = "localhost/unnamed";

/// The name of the record for an image without a name.
pub(super) fn name(target: &Digest) -> String {
    format!("{REPOSITORY}@{target}")
}

/// Whether a record exists because its image has no name.
pub(super) fn is_unnamed(record: &ImageRecord) -> bool {
    record.name == name(&record.target.digest)
}

impl ImageStore {
    /// Records an image that is complete, and returns the name of its record. If the image came without a name and has
    /// a record already, no other record is added. If the image gets a name, its record for the lack of a name is
    /// removed.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(super) async fn record(
        &self,
        ctx: &Context,
        session: &Session,
        record: ImageRecord,
    ) -> Result<String, Error> {
        let fail = || Error::containerd(&record.name);
        let images = session.images();
        if is_unnamed(&record) {
            let known = images.list(ctx, &[]).await.map_err(fail())?;
            let same = |known: &ImageRecord| known.target.digest == record.target.digest;
            if let Some(known) = known.into_iter().find(same) {
                return Ok(known.name);
            }
        }
        images.put(ctx, &record).await.map_err(fail())?;
        if !is_unnamed(&record) {
            self.drop_unnamed(ctx, &record.target.digest).await;
        }
        Ok(record.name)
    }

    /// Removes the record for the lack of a name, unless a container was created under that name. If it stays, it is
    /// only a second name of the image, so a failure is only logged.
    async fn drop_unnamed(&self, ctx: &Context, target: &Digest) {
        let name = name(target);
        let images = self.session.images();
        let dropping = async {
            match images.get(ctx, &name).await {
                Err(why) if why.is_not_found() => return Ok(()),
                found => found.map_err(Error::containerd(&name))?,
            };
            if self.in_use(ctx).await?.contains_key(&name) {
                return Ok(());
            }
            match images.delete(ctx, &name, false).await {
                Err(why) if why.is_not_found() => Ok(()),
                deleted => deleted.map_err(Error::containerd(&name)),
            }
        };
        if let Err(why) = dropping.await {
            tracing::debug!(why = %crate::chain(&why), "cannot remove the unnamed record of an image that has a name");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reference;
    use super::*;
    use crate::containerd::Descriptor;

    #[test]
    fn what_has_no_name_can_be_asked_for_all_the_same() {
        let digest = Digest::new(format!("sha256:{}", "a".repeat(64))).unwrap();
        let name = name(&digest);
        let reference = Reference::parse(&name).unwrap();
        assert_eq!(reference.to_string(), name);
        assert_eq!(reference.digest(), Some(&digest));
        let mut record = ImageRecord {
            name,
            target: Descriptor {
                media_type: "x".into(),
                digest,
                size: 1,
            },
            labels: std::collections::BTreeMap::new(),
        };
        assert!(is_unnamed(&record));
        record.name = "docker.io/library/a:1".into();
        assert!(!is_unnamed(&record));
    }
}
