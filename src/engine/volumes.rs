//! The directories that an image declares as VOLUME: storage of the container's own, writable under a read-only root too.
//!
//! They are directories of its writable layer. So each has the image's content and owner without a copy, counts against
//! `fs_size`, and goes with the layer; nothing more is to be undone. Under a read-only root file system the spec mounts
//! each over itself, which the read-only root does not reach. What the plan mounts at or above one takes its place.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fnctr_oci::Mount;

use super::Deps;
use super::disk::Layer;
use super::error::{At as _, Error, Kind, Result, Step};
use super::places;
use super::plan::Plan;
use crate::containerd::Mount as Layers;
use crate::image::{Image, Ownership, Place};
use crate::{ContainerId, Context};

/// Root's, and for everybody to enter: what Docker makes of a volume that the image has no directory for.
const NEW: Ownership = Ownership {
    uid: 0,
    gid: 0,
    mode: 0o755,
};

/// Why an image's volume cannot be had.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("volume {volume:?} of image {image} is not usable: {why}")]
    Volume {
        volume: String,
        image: String,
        why: &'static str,
    },
    #[error(
        "volume {volume:?} is not in the image, and snapshotter {snapshotter} has no directory to make it in; use overlayfs"
    )]
    NoLayer { volume: String, snapshotter: String },
    #[error("cannot make volume {volume:?} in the container's writable layer at {path:?}")]
    Make {
        volume: String,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

/// The volumes of one container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Volumes {
    /// Where they are in the container; no part of the way there is a symbolic link.
    pub(super) paths: Vec<String>,
    /// What the layer must have for those that the image has no directory for: parents first.
    made: Vec<(String, Ownership)>,
}

/// The image's volumes, as far as the plan mounts nothing there. An image without any costs nothing.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn find(deps: &Deps, ctx: &Context, plan: &Plan, image: &Image) -> Result<Volumes> {
    let declared = &image.config.volumes;
    if declared.is_empty() {
        return Ok(Volumes::default());
    }
    let name = plan.image.to_string();
    let rejected = |error| Error::new(Step::Image, &plan.id, Kind::ImageRejected, error);
    let paths = wanted(declared, &plan.config.mounts, &name).map_err(rejected)?;
    let all: Vec<String> = paths
        .iter()
        .flat_map(|path| with_parents(path))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let places = deps
        .images
        .places(ctx, image, &all)
        .await
        .at(Step::Image, &plan.id)?;
    let made = to_make(all.into_iter().zip(places), &name).map_err(rejected)?;
    Ok(Volumes { paths, made })
}

/// Makes what is missing, in a layer that nobody has mounted yet. It goes with the layer.
pub(super) fn make(deps: &Deps, id: &ContainerId, volumes: &Volumes, mounts: &[Layers]) -> Result<()> {
    let Some((first, _)) = volumes.made.first() else {
        return Ok(());
    };
    let Some(layer) = layer(mounts) else {
        let error = Unusable::NoLayer {
            volume: first.clone(),
            snapshotter: deps.config.snapshotter.clone(),
        };
        return Err(Error::new(Step::Rootfs, id, Kind::Unsupported, error));
    };
    volumes
        .make_in(&layer)
        .map_err(|error| Error::new(Step::Rootfs, id, Kind::Internal, error))
}

impl Volumes {
    fn make_in(&self, layer: &Path) -> Result<(), Unusable> {
        for (volume, like) in &self.made {
            let path = layer.join(volume.trim_start_matches('/'));
            directory(&path, *like).map_err(|cause| Unusable::Make {
                volume: volume.clone(),
                path,
                cause,
            })?;
        }
        Ok(())
    }
}

/// In an overlay's upper directory nothing of the image is there, and what is made hides the image's owner and mode.
fn directory(path: &Path, like: Ownership) -> io::Result<()> {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    chown(path, Some(like.uid), Some(like.gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(like.mode))
}

/// Where a layer's files are: an overlay's upper directory, or a copy of everything.
fn layer(mounts: &[Layers]) -> Option<PathBuf> {
    if let Some(layer) = Layer::of(mounts) {
        return Some(layer.upper);
    }
    match mounts {
        [one] if matches!(one.kind.as_str(), "bind" | "rbind") => Some(one.source.clone().into()),
        _ => None,
    }
}

/// The volumes that the plan leaves to the image, each in its one spelling.
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
        if places::is_own(path) || places::covering(path, mounts).is_some() {
            continue;
        }
        paths.insert(path.components().collect::<PathBuf>().display().to_string());
    }
    Ok(paths.into_iter().collect())
}

/// A path and the directories above it, but for the root.
fn with_parents(path: &str) -> Vec<String> {
    let ancestors = Path::new(path).ancestors();
    let below = ancestors.filter(|path| path.parent().is_some());
    below.map(|path| path.display().to_string()).collect()
}

/// What the layer must have, parents first; nothing where the image has them all.
fn to_make(
    found: impl Iterator<Item = (String, Place)>,
    image: &str,
) -> Result<Vec<(String, Ownership)>, Unusable> {
    let (mut made, mut missing) = (Vec::new(), false);
    for (volume, place) in found {
        let why = match place {
            Place::Directory(like) => {
                made.push((volume, like));
                continue;
            }
            Place::Nothing(_) => {
                made.push((volume, NEW));
                missing = true;
                continue;
            }
            // A mount's source is looked up on the host, where the link leads somewhere else.
            Place::Linked(_) => "there is a symbolic link in its path",
            Place::File | Place::Blocked => "there is no directory but a file",
        };
        let image = image.to_owned();
        return Err(Unusable::Volume { volume, image, why });
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
    fn what_the_plan_mounts_takes_the_place_of_the_image_s_volume() {
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
    fn what_the_image_lacks_is_made_below_directories_like_the_image_s() {
        let like = Ownership {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mode: 0o1750,
        };
        let there = |path: &str| (path.to_owned(), Place::Directory(like));
        let nothing = |path: &str| (path.to_owned(), Place::Nothing(path.to_owned()));
        assert_eq!(
            to_make([there("/a"), there("/a/b")].into_iter(), "i").unwrap(),
            []
        );
        let made = to_make([there("/a"), nothing("/a/b")].into_iter(), "i").unwrap();
        assert_eq!(made, [("/a".to_owned(), like), ("/a/b".to_owned(), NEW)]);
        for place in [Place::File, Place::Blocked, Place::Linked("/w".into())] {
            let error = to_make([("/v".to_owned(), place)].into_iter(), "i")
                .unwrap_err()
                .to_string();
            assert!(error.contains("\"/v\" of image i"), "{error}");
        }
        assert_eq!(with_parents("/a/b/c"), names(&["/a/b/c", "/a/b", "/a"]));

        use std::os::unix::fs::MetadataExt as _;
        let layer = tempfile::tempdir().unwrap();
        let made = [("/a".to_owned(), like), ("/a/b".to_owned(), like)].to_vec();
        let volumes = Volumes {
            paths: names(&["/a/b"]),
            made,
        };
        volumes.make_in(layer.path()).unwrap();
        let mode = |path: &str| fs::metadata(layer.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("a"), mode("a/b")), (0o1750, 0o1750));
        fs::write(layer.path().join("a/b/kept"), "x").unwrap();
        volumes.make_in(layer.path()).unwrap();
        assert!(layer.path().join("a/b/kept").exists());
    }
}
