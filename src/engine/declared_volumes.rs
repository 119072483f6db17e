//! The directories that an image declares as VOLUME: storage of the container, writable under a read-only root too.
//!
//! They are directories of its writable layer (`init_layer` makes those that the image lacks). So each has the image's
//! content and owner without a copy, counts against `fs_size`, and is removed with the layer; no further undo step is
//! needed. Under a read-only root file system, the spec mounts each onto itself, and the read-only root does not apply
//! to that mount. A mount of the plan at or above a volume replaces it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fnctr_oci::Mount;

use super::Deps;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::mount_points::{self, NEW, with_parents};
use super::plan::Plan;
use crate::Context;
use crate::image::{Image, Ownership, Place};

/// Why a volume of an image cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("volume {volume:?} of image {image} is not usable: {why}")]
    Volume {
        volume: String,
        image: String,
        why: &'static str,
    },
}

/// The volumes of one container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DeclaredVolumes {
    /// Their paths in the container, without symbolic links.
    pub(super) paths: Vec<String>,
    /// The directories that the layer must have for volumes that the image lacks: parents first.
    pub(super) made: Vec<(String, Ownership)>,
}

/// The image's volumes that no mount of the plan replaces. An image without volumes costs nothing.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn find(deps: &Deps, ctx: &Context, plan: &Plan, image: &Image) -> Result<DeclaredVolumes> {
    let declared = &image.config.volumes;
    if declared.is_empty() {
        return Ok(DeclaredVolumes::default());
    }
    let name = plan.image.to_string();
    let rejected = |error| Error::new(Step::Image, &plan.id, Kind::ImageRejected, error);
    let mounts = &plan.config.mounts;
    let mut paths = wanted(declared, mounts, &name).map_err(rejected)?;
    let mut found = look_up(deps, ctx, plan, image, &paths).await?;
    let straight: Vec<String> = paths.iter().map(|path| straight(path, &found)).collect();
    if straight != paths {
        // Links must be resolved in the image: the source of a mount is looked up on the host, where a link leads
        // elsewhere.
        paths = wanted(&straight, mounts, &name).map_err(rejected)?;
        found = look_up(deps, ctx, plan, image, &paths).await?;
    }
    let made = to_make(found, &name).map_err(rejected)?;
    Ok(DeclaredVolumes { paths, made })
}

/// Looks up these paths and their parents in the image.
async fn look_up(
    deps: &Deps,
    ctx: &Context,
    plan: &Plan,
    image: &Image,
    paths: &[String],
) -> Result<BTreeMap<String, Place>> {
    let all: BTreeSet<String> = paths.iter().flat_map(|path| with_parents(path)).collect();
    let all: Vec<String> = all.into_iter().collect();
    let places = deps.images.store.places(ctx, image, &all).await;
    let places = places.at(Step::Image, &plan.id)?;
    Ok(all.into_iter().zip(places).collect())
}

/// A path with its links resolved.
fn straight(path: &str, found: &BTreeMap<String, Place>) -> String {
    match found.get(path) {
        Some(Place::Linked(at) | Place::Nothing(at)) => at.clone(),
        _ => path.to_owned(),
    }
}

/// The volumes that no mount of the plan replaces, as normalized paths.
fn wanted(declared: &[String], mounts: &[Mount], image: &str) -> Result<Vec<String>, Unusable> {
    let mut paths = BTreeSet::new();
    for volume in declared {
        let refuse = |why| Unusable::Volume {
            volume: volume.clone(),
            image: image.to_owned(),
            why,
        };
        let path = Path::new(volume);
        let odd = |part| matches!(part, std::path::Component::ParentDir);
        if !path.is_absolute() || path.components().any(odd) {
            return Err(refuse("it is not an absolute path without '..'"));
        }
        if path == Path::new("/") {
            return Err(refuse("it is the whole root file system"));
        }
        if mount_points::is_own(path) || mount_points::covering(path, mounts).is_some() {
            continue;
        }
        paths.insert(path.components().collect::<PathBuf>().display().to_string());
    }
    Ok(paths.into_iter().collect())
}

/// The directories that the layer must have, parents first; none if the image has all volumes.
fn to_make(found: BTreeMap<String, Place>, image: &str) -> Result<Vec<(String, Ownership)>, Unusable> {
    let (mut made, mut missing) = (Vec::new(), false);
    for (volume, place) in found {
        match place {
            Place::Directory(like) => made.push((volume, like)),
            Place::Nothing(_) => {
                made.push((volume, NEW));
                missing = true;
            }
            Place::Linked(_) | Place::File | Place::Blocked => {
                let why = "it or a part of its path is a file, or its links lead in a circle";
                let image = image.to_owned();
                return Err(Unusable::Volume { volume, image, why });
            }
        }
    }
    Ok(if missing { made } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use fnctr_oci::TmpfsAccess;

    use super::*;

    fn mount(destination: &str) -> Mount {
        Mount::Tmpfs {
            destination: destination.into(),
            size: None,
            inodes: None,
            access: TmpfsAccess::default(),
        }
    }

    fn names(paths: &[&str]) -> Vec<String> {
        paths.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_mount_of_the_plan_replaces_a_volume_of_the_image() {
        let declared = names(&["/data/", "/tmp/x", "/tmp", "/dev/shm", "/data/a", "/srv"]);
        let mounts = [mount("/tmp"), mount("/srv/below")];
        let wanted = wanted(&declared, &mounts, "i").unwrap();
        assert_eq!(wanted, names(&["/data", "/data/a", "/srv"]));
        for bad in ["", "data", "/a/../b", "/"] {
            let error = super::wanted(&names(&[bad]), &[], "i").unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?} of image i")), "{error}");
        }
    }

    #[test]
    fn missing_volumes_are_made_below_directories_like_those_of_the_image() {
        let like = Ownership {
            uid: 7,
            gid: 8,
            mode: 0o1750,
        };
        let made = |found: &[(&str, Place)]| {
            let found = found
                .iter()
                .map(|(path, place)| ((*path).to_owned(), place.clone()));
            to_make(found.collect(), "i").map_err(|error| error.to_string())
        };
        let there = Place::Directory(like);
        assert_eq!(
            made(&[("/a", there.clone()), ("/a/b", there.clone())]),
            Ok(vec![])
        );
        let nothing = Place::Nothing("/a/b".to_owned());
        assert_eq!(
            made(&[("/a", there), ("/a/b", nothing)]),
            Ok(vec![("/a".to_owned(), like), ("/a/b".to_owned(), NEW)])
        );
        for place in [Place::File, Place::Blocked] {
            let error = made(&[("/v", place)]).unwrap_err();
            assert!(error.contains("\"/v\" of image i"), "{error}");
        }
    }

    #[test]
    fn a_volume_is_where_the_links_in_its_path_lead() {
        let found = BTreeMap::from([
            ("/var/run".to_owned(), Place::Linked("/run".to_owned())),
            ("/var/run/x".to_owned(), Place::Nothing("/run/x".to_owned())),
            ("/data".to_owned(), Place::Directory(NEW)),
            ("/loop".to_owned(), Place::Blocked),
        ]);
        for (path, at) in [
            ("/var/run", "/run"),
            ("/var/run/x", "/run/x"),
            ("/data", "/data"),
            ("/loop", "/loop"),
        ] {
            assert_eq!(straight(path, &found), at);
        }
    }
}
