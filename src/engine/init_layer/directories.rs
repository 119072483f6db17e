//! The directories that the plan's mounts and its working directory need: those of the image, and those that it lacks.
//!
//! The checks have made and cached the same look-ups already, so an image that fits costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fnctr_oci::Mount;

use super::super::error::{ErrorContext as _, Result, Step};
use super::super::mount_points::{covering, destination, is_own, with_parents};
use super::super::plan::Plan;
use super::super::{Deps, etc};
use super::is_a_directory;
use super::item::Item;
use crate::Context;
use crate::engine::mount_points::NEW;
use crate::image::{Image, Ownership, Place};

/// An image together with one plan for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) deps: &'a Deps,
    pub(super) ctx: &'a Context,
    pub(super) plan: &'a Plan,
    pub(super) image: &'a Image,
}

impl View<'_> {
    /// The directories of the image that a tmpfs covers, with the mode that the tmpfs is to have. If they have it
    /// already, this costs nothing more than their look-up, which is cached.
    pub(super) async fn under_memory(self) -> Result<Vec<Item>> {
        let mounts = &self.plan.config.mounts;
        let mut asked = covered(mounts);
        let mut found = BTreeMap::new();
        // A second time for the targets of links.
        for _ in 0..2 {
            let paths: Vec<String> = asked.iter().map(|(path, _)| path.clone()).collect();
            let places = self.places(&paths).await?;
            let mut linked = Vec::new();
            for ((path, mode), place) in asked.into_iter().zip(places) {
                match place {
                    Place::Directory(whose) if whose.mode != mode => {
                        found.insert(path, Ownership { mode, ..whose });
                    }
                    Place::Linked(at) if shows_the_image(Path::new(&at), mounts) => linked.push((at, mode)),
                    _ => {}
                }
            }
            asked = linked;
        }
        let mut items = self.with_parent_items(found.keys()).await?;
        let found = found.into_iter();
        items.extend(found.map(|(path, whose)| Item::Directory(path, whose)));
        Ok(items)
    }

    /// The missing targets of links at the places of mounts.
    pub(super) async fn behind_links(self) -> Result<Vec<Item>> {
        let mounts = &self.plan.config.mounts;
        let over = mounts
            .iter()
            .filter(|mount| is_over_the_image(destination(mount), mounts));
        let over: Vec<&Mount> = over
            .filter(|mount| !etc::is_etc_file(destination(mount)))
            .collect();
        let asked: Vec<String> = over.iter().map(|mount| spelled(destination(mount))).collect();
        let places = self.places(&asked).await?;
        let (mut above, mut ends) = (BTreeSet::new(), Vec::new());
        for ((mount, path), place) in over.into_iter().zip(asked).zip(places) {
            let Place::Nothing(at) = place else { continue };
            if at == path || !is_over_the_image(Path::new(&at), mounts) {
                continue;
            }
            above.extend(with_parents(&at).into_iter().skip(1));
            ends.push(match is_a_directory(mount) {
                true => Item::Parent(at, NEW),
                false => Item::File(at),
            });
        }
        let mut items = self.with_parent_items(above.iter()).await?;
        items.extend(ends);
        Ok(items)
    }

    /// The directories that the runtime would make, with containerd's umask, for the working directory and above the
    /// places of mounts.
    pub(super) async fn missing(self, cwd: &Path) -> Result<Vec<Item>> {
        let mounts = &self.plan.config.mounts;
        let init = self.plan.init.then_some(Path::new(fnctr_oci::INIT_PATH));
        let places = mounts.iter().map(destination).chain(init);
        let wanted = places
            .filter_map(Path::parent)
            .chain([cwd])
            .filter(|path| shows_the_image(path, mounts));
        let asked: Vec<String> = wanted.map(spelled).collect::<BTreeSet<_>>().into_iter().collect();
        let places = self.places(&asked).await?;
        let missing = places.into_iter().filter_map(|place| match place {
            Place::Nothing(at) if shows_the_image(Path::new(&at), mounts) => Some(at),
            _ => None,
        });
        let missing: Vec<String> = missing.collect();
        self.with_parent_items(missing.iter()).await
    }

    /// Items for directories whose paths have no links, and for their parents: as the image has them, or new.
    async fn with_parent_items(self, paths: impl Iterator<Item = &String>) -> Result<Vec<Item>> {
        let all: BTreeSet<String> = paths.flat_map(|path| with_parents(path)).collect();
        let all: Vec<String> = all.into_iter().collect();
        let places = self.places(&all).await?;
        let items = all
            .into_iter()
            .zip(places)
            .filter_map(|(path, place)| match place {
                Place::Directory(whose) => Some(Item::Parent(path, whose)),
                Place::Nothing(_) => Some(Item::Parent(path, NEW)),
                _ => None,
            });
        Ok(items.collect())
    }

    async fn places(self, paths: &[String]) -> Result<Vec<Place>> {
        let places = self.deps.images.store.places(self.ctx, self.image, paths).await;
        places.at(Step::Image, &self.plan.id)
    }
}

/// Where the plan mounts a tmpfs over the image, and the mode that the tmpfs is to have there.
fn covered(mounts: &[Mount]) -> Vec<(String, u32)> {
    let tmpfs = mounts.iter().filter_map(|mount| match mount {
        Mount::Tmpfs {
            destination, access, ..
        } => Some((destination, access.mode)),
        Mount::Bind { .. } => None,
    });
    tmpfs
        .filter(|(place, _)| is_over_the_image(place, mounts))
        .map(|(place, mode)| (spelled(place), mode))
        .collect()
}

/// Whether a mount there is over the image, and not in another mount.
fn is_over_the_image(place: &Path, mounts: &[Mount]) -> bool {
    let above = place.parent().unwrap_or_else(|| Path::new("/"));
    !is_own(place) && shows_the_image(above, mounts)
}

/// Whether the image's content is visible there.
pub(super) fn shows_the_image(path: &Path, mounts: &[Mount]) -> bool {
    !is_own(path) && covering(path, mounts).is_none()
}

/// A normalized path, so that it is looked up once.
fn spelled(path: &Path) -> String {
    path.components().collect::<PathBuf>().display().to_string()
}

#[cfg(test)]
mod tests {
    use fnctr_oci::TmpfsAccess;

    use super::*;

    fn bind(source: &Path, destination: &str) -> Mount {
        Mount::Bind {
            source: source.to_owned(),
            destination: destination.into(),
            readonly: true,
        }
    }

    fn memory(destination: &str, mode: u32) -> Mount {
        Mount::Tmpfs {
            destination: destination.into(),
            size: None,
            inodes: None,
            access: TmpfsAccess {
                mode,
                ..TmpfsAccess::default()
            },
        }
    }

    #[test]
    fn only_a_tmpfs_over_a_path_of_the_image_is_covered() {
        let mounts = [
            memory("//tmp/", 0o1777),
            memory("/run", 0o750),
            memory("/data/below", 0o1777),
            memory("/dev/shm", 0o1777),
            bind(Path::new("/s"), "/data"),
            bind(Path::new("/s"), "/x"),
        ];
        let expected = [("/tmp".to_owned(), 0o1777), ("/run".to_owned(), 0o750)];
        assert_eq!(covered(&mounts), expected);
    }
}
