//! The images in the store, as users handle them: listed, named, removed.
//!
//! An image may have several names. Its id is the digest of its configuration, as in Docker. Removing the last name
//! removes the image, except for parts that are used elsewhere: containerd's garbage collector removes what has no
//! reference, and a running container keeps its snapshots.

use std::collections::BTreeMap;

use super::contents::ImageContents;
use super::footprint::{Footprint, Part, freed};
use super::freed::{Kept, Parts};
use super::unnamed::is_unnamed;
use super::{Error, ImageStore, Reference};
use crate::containerd::ImageRecord;
use crate::{Context, Digest};

/// The shortest prefix of an id that identifies an image.
const SHORTEST: usize = 4;

/// An image in the store.
#[derive(Debug, Clone)]
pub(crate) struct StoredImage {
    /// Its names, of which there is at least one.
    pub(crate) names: Vec<ImageRecord>,
    /// The contents of the image.
    pub(crate) contents: ImageContents,
}

impl StoredImage {
    /// Its id, if its configuration is known.
    pub(crate) fn id(&self) -> Option<&Digest> {
        self.contents.manifest.as_ref().map(|found| &found.config.digest)
    }

    /// The name of a record as it is shown to users; `None` if the record only exists because the image has no name.
    pub(crate) fn called(record: &ImageRecord) -> Option<&str> {
        (!is_unnamed(record)).then_some(record.name.as_str())
    }
}

/// All images in the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredImages {
    /// Sorted by name.
    pub(crate) images: Vec<StoredImage>,
}

/// The result of a removal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// The removed names.
    pub(crate) names: Vec<String>,
    /// The ids of the images whose last name was removed.
    pub(crate) ids: Vec<Digest>,
    /// The bytes that were freed on disk.
    pub(crate) freed: u64,
    /// What no image uses any more, but still exists.
    pub(crate) kept: Option<Kept>,
}

impl StoredImages {
    /// How many bytes the removal of an image would free.
    pub(crate) fn frees(&self, image: &StoredImage) -> u64 {
        let others = self.images.iter().filter(|other| other.names != image.names);
        let others: Vec<&Footprint> = others.map(|other| &other.contents.footprint).collect();
        freed(&image.contents.footprint, others)
    }

    /// The parts of the removed images that no other image has.
    fn parts_of_those(&self, goes: impl Fn(&StoredImage) -> bool) -> Parts {
        let going = self.images.iter().filter(|image| goes(image));
        let mut parts: Parts = going
            .flat_map(|image| image.contents.footprint.parts.iter().cloned())
            .collect();
        for (part, _) in self.stay(goes) {
            parts.remove(part);
        }
        parts
    }

    /// The parts of the images that are not removed.
    fn stay(&self, goes: impl Fn(&StoredImage) -> bool) -> impl Iterator<Item = &(Part, u64)> {
        let staying = self.images.iter().filter(move |image| !goes(image));
        staying.flat_map(|image| &image.contents.footprint.parts)
    }

    /// The image with this name or id, and the name if the text was one.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], and [`Error::SeveralImages`] for a prefix of several ids.
    pub(crate) fn find(&self, text: &str) -> Result<(&StoredImage, Option<String>), Error> {
        let named = |name: &str| {
            let has = |image: &&StoredImage| image.names.iter().any(|record| record.name == name);
            self.images.iter().find(has)
        };
        if let Ok(reference) = Reference::parse(text) {
            let name = reference.to_string();
            if let Some(image) = named(&name) {
                return Ok((image, Some(name)));
            }
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_id = hex.len() >= SHORTEST && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let begins = |image: &&StoredImage| image.id().is_some_and(|id| id.hex().starts_with(hex));
        let mut found = self.images.iter().filter(|image| is_id && begins(image));
        let image = found.next().ok_or_else(|| Error::NoSuchImage {
            image: text.to_owned(),
        })?;
        // An image that exists both within an index and by itself is one image with two targets.
        if found.any(|other| other.id() != image.id()) {
            return Err(Error::SeveralImages { id: text.to_owned() });
        }
        Ok((image, None))
    }
}

/// The containers that were created from an image.
fn users(image: &StoredImage, used: &BTreeMap<String, String>) -> Vec<String> {
    let users = image.names.iter().filter_map(|record| used.get(&record.name));
    users.cloned().collect()
}

impl ImageStore {
    /// The images in the store. An image that cannot be parsed is listed without any information about it.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn stored_images(&self, ctx: &Context) -> Result<StoredImages, Error> {
        let records = self.session.images().list(ctx, &[]).await;
        let mut by_target: BTreeMap<Digest, Vec<ImageRecord>> = BTreeMap::new();
        for record in records.map_err(Error::store("the list of images"))? {
            by_target
                .entry(record.target.digest.clone())
                .or_default()
                .push(record);
        }
        let mut images = Vec::new();
        for mut names in by_target.into_values() {
            names.sort_by(|one, other| one.name.cmp(&other.name));
            let Some(first) = names.first() else { continue };
            let contents = match self.contents(ctx, first).await {
                Err(why @ Error::Malformed { .. }) => {
                    tracing::debug!(why = %crate::chain(&why), "cannot parse the documents of an image; listing it without them");
                    ImageContents::nothing()
                }
                contents => contents?,
            };
            images.push(StoredImage { names, contents });
        }
        images.sort_by(|one, other| {
            one.names
                .first()
                .map(|r| &r.name)
                .cmp(&other.names.first().map(|r| &r.name))
        });
        Ok(StoredImages { images })
    }

    /// Gives an image another name. If the name referred to another image, it no longer does.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn tag(&self, ctx: &Context, source: &str, name: &Reference) -> Result<(), Error> {
        let stored = self.stored_images(ctx).await?;
        let (image, _) = stored.find(source)?;
        let Some(record) = image.names.first() else {
            return Ok(());
        };
        let record = ImageRecord {
            name: name.to_string(),
            ..record.clone()
        };
        self.record(ctx, &self.session, record).await.map(drop)
    }

    /// Removes a name, or, given an id, an image with all its names. Without `force`, it refuses to remove the last
    /// name of an image that a container uses, and to remove several names by an id.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::SeveralNames`], and those of [`StoredImages::find`]; in these cases nothing is
    /// removed.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn remove(&self, ctx: &Context, text: &str, force: bool) -> Result<Removed, Error> {
        let mut sweep = self.sweep(ctx).await?;
        let idle = self.idle_leases(ctx).await?;
        self.end_leases(ctx, &mut sweep, &idle).await?;
        drop(sweep);
        let stored = self.stored_images(ctx).await?;
        let (image, name) = stored.find(text)?;
        let going: Vec<&ImageRecord> = match &name {
            Some(name) => image.names.iter().filter(|record| record.name == *name).collect(),
            None if image.names.len() > 1 && !force => {
                return Err(Error::SeveralNames {
                    image: text.to_owned(),
                    names: image.names.iter().map(|record| record.name.clone()).collect(),
                });
            }
            None => image.names.iter().collect(),
        };
        let is_last = going.len() == image.names.len();
        let used = if is_last {
            self.in_use(ctx).await?
        } else {
            BTreeMap::new()
        };
        let containers = users(image, &used);
        if let Some(container) = containers.first().filter(|_| !force) {
            return Err(Error::InUse {
                image: text.to_owned(),
                container: container.clone(),
            });
        }
        let parts = if is_last {
            stored.parts_of_those(|other| other.names == image.names)
        } else {
            Parts::new()
        };
        self.remove_names(ctx, &going).await?;
        let (freed, kept) = self.freed_of(ctx, parts, &containers).await;
        Ok(Removed {
            names: going.iter().map(|record| record.name.clone()).collect(),
            ids: image.id().filter(|_| is_last).cloned().into_iter().collect(),
            freed,
            kept,
        })
    }

    /// Removes what killed loads and pulls have left, and all images that no container uses; an image with a name is
    /// removed only if `all` is set.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn prune(&self, ctx: &Context, all: bool) -> Result<Removed, Error> {
        let mut sweep = self.sweep(ctx).await?;
        let idle = self.idle_leases(ctx).await?;
        self.end_leases(ctx, &mut sweep, &idle).await?;
        let stored = self.stored_images(ctx).await?;
        let used = self.in_use(ctx).await?;
        let goes = |image: &StoredImage| {
            (all || image.names.iter().all(is_unnamed)) && users(image, &used).is_empty()
        };
        let mut removed = Removed::default();
        for image in stored.images.iter().filter(|image| goes(image)) {
            let names: Vec<_> = image.names.iter().collect();
            self.remove_names(ctx, &names).await?;
            removed
                .names
                .extend(names.iter().map(|record| record.name.clone()));
            removed.ids.extend(image.id().cloned());
        }
        let parts = stored.parts_of_those(goes);
        (removed.freed, removed.kept) = self.freed_of(ctx, parts, &[]).await;
        removed.freed = removed.freed.saturating_add(sweep.freed());
        Ok(removed)
    }

    /// The names of images from which containers were created, each with one such container.
    pub(super) async fn in_use(&self, ctx: &Context) -> Result<BTreeMap<String, String>, Error> {
        let containers = self.session.containers().list(ctx, &[]).await;
        let containers = containers.map_err(Error::store("the list of containers"))?;
        Ok(containers
            .into_iter()
            .map(|one| (one.image, one.id.to_string()))
            .collect())
    }

    /// Removes these names. After the last one, the garbage collector removes what has no other reference.
    pub(super) async fn remove_names(&self, ctx: &Context, names: &[&ImageRecord]) -> Result<(), Error> {
        let images = self.session.images();
        let last = names.len().saturating_sub(1);
        for (at, record) in names.iter().enumerate() {
            match images.delete(ctx, &record.name, at == last).await {
                Err(why) if why.is_not_found() => {}
                deleted => deleted.map_err(Error::containerd(&record.name))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::contents::Found;
    use super::*;
    use crate::containerd::Descriptor;

    fn blob(digit: char) -> Descriptor {
        Descriptor {
            media_type: "x".into(),
            digest: Digest::new(format!("sha256:{}", digit.to_string().repeat(64))).unwrap(),
            size: 1,
        }
    }

    fn image(names: &[&str], target: char, config: char) -> StoredImage {
        let record = |name: &&str| ImageRecord {
            name: (*name).to_owned(),
            target: blob(target),
            labels: BTreeMap::new(),
        };
        let found = Found {
            manifest: blob(target),
            config: blob(config),
            layers: Vec::new(),
            diff_ids: Vec::new(),
            settings: None,
        };
        StoredImage {
            names: names.iter().map(record).collect(),
            contents: ImageContents {
                manifest: Some(found),
                ..ImageContents::nothing()
            },
        }
    }

    #[test]
    fn an_image_is_found_by_its_familiar_name_and_by_the_beginning_of_its_id() {
        let stored = StoredImages {
            images: vec![
                image(&["docker.io/library/a:latest", "r.io/a:1"], '1', 'a'),
                image(&["r.io/abcd:1"], '2', 'b'),
                image(&["r.io/index:1"], '3', 'b'),
            ],
        };
        let found = |text: &str| {
            stored
                .find(text)
                .map(|(image, name)| (image.names[0].name.clone(), name))
        };
        assert_eq!(
            found("a").unwrap(),
            (
                "docker.io/library/a:latest".into(),
                Some("docker.io/library/a:latest".into())
            )
        );
        assert_eq!(found("r.io/a:1").unwrap().1, Some("r.io/a:1".into()));
        assert_eq!(
            found("aaaa").unwrap(),
            ("docker.io/library/a:latest".into(), None)
        );
        assert_eq!(found(&format!("sha256:{}", "a".repeat(64))).unwrap().1, None);
        assert_eq!(found("bbbbb").unwrap().0, "r.io/abcd:1", "two targets, one image");
        for missing in ["aaa", "cccc", "r.io/a:2", "UPPER", ""] {
            assert!(
                matches!(found(missing), Err(Error::NoSuchImage { .. })),
                "{missing}: {:?}",
                found(missing)
            );
        }
    }
}
