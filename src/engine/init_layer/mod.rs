//! The content that a container's writable layer has from the start, like Docker's init layer. It makes any image fit
//! the files and mounts that every container gets.
//!
//! - Plain files for `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` in the place of links and devices. The
//!   runtime, which mounts over them, would follow a link: into /proc, which it refuses, or into a mount, where it
//!   would make a file on the host. A link at `/etc` itself stays if it leads to a directory of the image; Docker puts
//!   an empty directory in its place.
//! - `/etc/mtab`, a link to the list of mounts.
//! - The modes of directories that a tmpfs covers: runc before 1.1.8 gives the tmpfs the directory's mode, whatever its
//!   options are.
//! - The target of a symbolic link at the place of a mount, if the target does not exist: runc since 1.3.3 does not
//!   make it.
//! - The directories of volumes that the image lacks.
//! - Directories that every user may enter, whatever umask containerd has: the root, and those that the runtime would
//!   make otherwise, for the working directory and for places of mounts.
//!
//! All of it is removed with the layer. In an overlay's upper directory, a new directory hides the image's, so each
//! parent directory is made with the image's owner and mode.

mod directories;
mod etc_files;
mod item;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fnctr_oci::Mount;

use self::item::Item;
use super::Deps;
use super::declared_volumes::DeclaredVolumes;
use super::disk::{self, Layer};
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::mount_points::{NEW, covering};
use super::plan::Plan;
use crate::containerd::Mount as Layers;
use crate::image::{Image, Ownership};
use crate::{ContainerId, Context};

/// Why this content cannot be made.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{path:?} in image {image} is a directory, where a container must have a file; change the image")]
    Directory { path: String, image: String },
    #[error(
        "{path:?} must be made for the container, and snapshotter {snapshotter} has no directory to make it in; use overlayfs"
    )]
    NoLayer { path: String, snapshotter: String },
    #[error("cannot make {path:?} in the container's writable layer at {layer:?}")]
    Make {
        path: String,
        layer: PathBuf,
        #[source]
        cause: io::Error,
    },
}

/// The initial content of one container's layer, parents first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct InitLayer {
    items: Vec<Item>,
    /// The path of an item without which there can be no container.
    needed: Option<String>,
}

/// Plans the content, and refuses by name what cannot be made to fit. Nothing is made yet.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn plan(
    deps: &Deps,
    ctx: &Context,
    plan: &Plan,
    image: &Image,
    cwd: &Path,
    volumes: &DeclaredVolumes,
) -> Result<InitLayer> {
    let facts = deps
        .images
        .store
        .facts(ctx, image)
        .await
        .at(Step::Image, &plan.id)?;
    let mounts = &plan.config.mounts;
    let mut layer = etc_files::items(&facts.etc, mounts, &plan.image.to_string())
        .map_err(|error| Error::new(Step::Image, &plan.id, Kind::ImageRejected, error))?;
    if covering(Path::new("/dev"), mounts).is_none() {
        let other = facts.etc.dev.filter(|dev| dev.mode != NEW.mode);
        let dev = other.map(|dev| Ownership {
            mode: NEW.mode,
            ..dev
        });
        let items = dev.map(|dev| Item::Directory("/dev".to_owned(), dev));
        layer.items.extend(items);
    }
    let view = directories::View {
        deps,
        ctx,
        plan,
        image,
    };
    layer.items.extend(view.under_memory().await?);
    layer.items.extend(view.behind_links().await?);
    if deps.host.umask & NEW.mode != 0 {
        layer.items.extend(view.missing(cwd).await?);
    }
    for (path, whose) in &volumes.made {
        layer.items.push(Item::Parent(path.clone(), *whose));
        layer.needed.get_or_insert_with(|| path.clone());
    }
    Ok(layer)
}

impl InitLayer {
    /// Makes the content in a layer that is not mounted yet. If the layer has no directory of its own, this fails only
    /// if an item is needed.
    pub(super) fn make(&self, deps: &Deps, id: &ContainerId, mounts: &[Layers]) -> Result<()> {
        let failed = |kind, error: Unusable| Error::new(Step::Rootfs, id, kind, error);
        let Some(layer) = layer(deps, mounts) else {
            return match self.needed.clone() {
                None => Ok(()),
                Some(path) => {
                    let snapshotter = deps.config.snapshotter.clone();
                    Err(failed(Kind::Unsupported, Unusable::NoLayer { path, snapshotter }))
                }
            };
        };
        self.make_in(&layer)
            .map_err(|error| failed(Kind::Internal, error))
    }

    fn make_in(&self, layer: &Path) -> Result<(), Unusable> {
        let failed = |path: &str| {
            let (path, layer) = (path.to_owned(), layer.to_owned());
            move |cause| Unusable::Make { path, layer, cause }
        };
        open_to_all(layer).map_err(failed("/"))?;
        for item in &self.items {
            let path = item.path();
            item.make(&layer.join(path.trim_start_matches('/')))
                .map_err(failed(path))?;
        }
        Ok(())
    }
}

/// The root directory of a container is that of its layer. containerd makes it with mode 755, from which its umask may
/// remove permissions.
fn open_to_all(layer: &Path) -> io::Result<()> {
    let mode = fs::metadata(layer)?.mode();
    if mode & NEW.mode == NEW.mode {
        return Ok(());
    }
    fs::set_permissions(layer, fs::Permissions::from_mode((mode & 0o7777) | NEW.mode))
}

/// Where a layer's files are: an overlay's upper directory, or a copy of everything. `None` if the layer has no
/// directory, or if containerd has another directory at this path than this process.
fn layer(deps: &Deps, mounts: &[Layers]) -> Option<PathBuf> {
    let (layer, is_fresh) = match (Layer::of(mounts), mounts) {
        (Some(layer), _) => {
            let is_empty = fs::read_dir(&layer.upper).is_ok_and(|mut found| found.next().is_none());
            (layer.upper, is_empty)
        }
        (None, [one]) if matches!(one.kind.as_str(), "bind" | "rbind") => {
            let source = PathBuf::from(&one.source);
            let is_dir = source.is_dir();
            (source, is_dir)
        }
        _ => return None,
    };
    let is_theirs = deps
        .host
        .daemon
        .is_none_or(|daemon| !disk::differs(daemon, &layer));
    if is_fresh && is_theirs {
        return Some(layer);
    }
    tracing::debug!(layer = %layer.display(), "the container's writable layer is not visible to this process");
    None
}

fn is_a_directory(mount: &Mount) -> bool {
    match mount {
        Mount::Bind { source, .. } => source.is_dir(),
        Mount::Tmpfs { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_item_is_made_with_owner_and_mode_in_a_fresh_layer_and_in_a_copy() {
        let own = Ownership {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mode: 0o1750,
        };
        let layer = InitLayer {
            items: vec![
                Item::Parent("/etc".to_owned(), own),
                Item::File("/etc/hosts".to_owned()),
                Item::Mounts("/etc/mtab".to_owned()),
                Item::Directory("/tmp".to_owned(), Ownership { mode: 0o1777, ..own }),
                Item::Parent("/tmp".to_owned(), own),
                Item::Parent("/tmp/v".to_owned(), own),
                Item::Directory("/link".to_owned(), own),
            ],
            needed: None,
        };
        let (fresh, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(copy.path().join("tmp/v")).unwrap();
        fs::create_dir_all(copy.path().join("etc")).unwrap();
        fs::write(copy.path().join("tmp/v/kept"), "x").unwrap();
        fs::write(copy.path().join("etc/mtab"), "stale").unwrap();
        symlink("/dev/null", copy.path().join("etc/hosts")).unwrap();
        symlink("nowhere", copy.path().join("link")).unwrap();
        for dir in [&fresh, &copy] {
            // As a umask of 077 makes it.
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
            layer.make_in(dir.path()).unwrap();
            let mode = |path: &str| fs::symlink_metadata(dir.path().join(path)).unwrap().mode() & 0o7777;
            assert_eq!((mode(""), mode("tmp"), mode("link")), (0o755, 0o1777, 0o1750));
            let hosts = fs::symlink_metadata(dir.path().join("etc/hosts")).unwrap();
            assert!(hosts.is_file() && hosts.mode() & 0o777 == 0o644);
            let mtab = fs::read_link(dir.path().join("etc/mtab")).unwrap();
            assert_eq!(mtab, Path::new("/proc/mounts"));
        }
        let mode = |path: &str| fs::metadata(fresh.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("etc"), mode("tmp/v")), (0o1750, 0o1750));
        assert!(copy.path().join("tmp/v/kept").exists());
        fs::remove_file(copy.path().join("etc/hosts")).unwrap();
        fs::create_dir_all(copy.path().join("etc/hosts/full")).unwrap();
        let error = layer.make_in(copy.path()).unwrap_err();
        assert!(error.to_string().contains("\"/etc/hosts\""), "{error}");
    }
}
