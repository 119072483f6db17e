//! Checks that a plan's mounts and working directory fit the image's file system: a directory is mounted on a
//! directory, a file on a file, and the working directory is a directory.
//!
//! A plan without mounts and with `/` for its working directory costs nothing here. For any other plan, each place is
//! looked up once per image, and cached.

use std::path::{Path, PathBuf};

use fnctr_oci::Mount;

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::plan::Plan;
use super::{Deps, etc};
use crate::Context;
use crate::image::{Image, Ownership, Place};

/// The file systems that every container has, which hide what the image has there.
pub(super) const OWN: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Owned by root, and open to every user: how Docker makes a directory that the image lacks.
pub(super) const NEW: Ownership = Ownership {
    uid: 0,
    gid: 0,
    mode: 0o755,
};

/// Why a mount or the working directory does not fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Misfit {
    #[error(
        "mount source {source_path:?} is {a}, and {destination:?} in image {image} is {b}; mount it somewhere else"
    )]
    Kind {
        source_path: PathBuf,
        a: &'static str,
        destination: String,
        b: &'static str,
        image: String,
    },
    #[error(
        "the mount destination {destination:?} cannot be made: a part of it is no directory in image {image}"
    )]
    Blocked { destination: String, image: String },
    #[error("working directory {cwd:?} is not a directory in image {image}; choose another")]
    Cwd { cwd: String, image: String },
    #[error(
        "working directory {cwd:?} is not a directory: {path:?} of the host is mounted there; choose another"
    )]
    MountedCwd { cwd: String, path: PathBuf },
}

const DIRECTORY: &str = "a directory";
const FILE: &str = "a file";

/// Checks every mount and the working directory.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn check(deps: &Deps, ctx: &Context, plan: &Plan, image: &Image, cwd: &Path) -> Result<()> {
    let misfit = |error| Error::new(Step::Check, &plan.id, Kind::InvalidPlan, error);
    let mounts = &plan.config.mounts;
    let mut wanted: Vec<Requirement<'_>> = mounts
        .iter()
        .filter_map(|mount| requirement_of(mount, mounts))
        .collect();
    match covering(cwd, mounts) {
        Some(mount) => mounted_cwd(cwd, mount).map_err(misfit)?,
        None if cwd == Path::new("/") || is_own(cwd) => {}
        None => wanted.push(Requirement::Cwd(cwd)),
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let paths: Vec<String> = wanted.iter().map(Requirement::path).collect();
    let places = deps
        .images
        .store
        .places(ctx, image, &paths)
        .await
        .at(Step::Image, &plan.id)?;
    let name = plan.image.to_string();
    for ((wanted, path), place) in wanted.iter().zip(paths).zip(places) {
        wanted.fits(path, place, &name).map_err(misfit)?;
    }
    Ok(())
}

/// What the plan needs at a place.
#[derive(Debug)]
enum Requirement<'a> {
    Mount {
        source: Option<&'a Path>,
        destination: &'a Path,
    },
    Cwd(&'a Path),
}

impl Requirement<'_> {
    fn path(&self) -> String {
        let (Self::Mount {
            destination: path, ..
        }
        | Self::Cwd(path)) = self;
        // Normalized, so that it is looked up once.
        path.components().collect::<PathBuf>().display().to_string()
    }

    fn fits(&self, path: String, place: Place, image: &str) -> Result<(), Misfit> {
        let image = image.to_owned();
        match *self {
            Self::Cwd(_) if matches!(place, Place::File | Place::Blocked) => {
                Err(Misfit::Cwd { cwd: path, image })
            }
            Self::Cwd(_) => Ok(()),
            Self::Mount { .. } if place == Place::Blocked => Err(Misfit::Blocked {
                destination: path,
                image,
            }),
            Self::Mount {
                source: Some(source), ..
            } => {
                let b = match place {
                    Place::Directory(_) | Place::Linked(_) => DIRECTORY,
                    Place::File => FILE,
                    Place::Nothing(_) | Place::Blocked => return Ok(()),
                };
                // The runtime reports a source that was removed meanwhile.
                let a = match std::fs::metadata(source) {
                    Ok(found) if found.is_dir() => DIRECTORY,
                    Ok(_) => FILE,
                    Err(_) => return Ok(()),
                };
                if a == b {
                    return Ok(());
                }
                Err(Misfit::Kind {
                    source_path: source.to_owned(),
                    a,
                    destination: path,
                    b,
                    image,
                })
            }
            Self::Mount { source: None, .. } if place == Place::File => Err(Misfit::Kind {
                source_path: "tmpfs".into(),
                a: DIRECTORY,
                destination: path,
                b: FILE,
                image,
            }),
            Self::Mount { source: None, .. } => Ok(()),
        }
    }
}

/// A path and the directories above it, except the root.
pub(super) fn with_parents(path: &str) -> Vec<String> {
    let ancestors = Path::new(path).ancestors();
    let below = ancestors.filter(|path| path.parent().is_some());
    below.map(|path| path.display().to_string()).collect()
}

/// What a mount needs of the image. `None` if the image does not matter: the place is in a file system that every
/// container has, or in another mount of the plan, or it is a file where every container has a file whatever the image
/// has there.
fn requirement_of<'a>(mount: &'a Mount, mounts: &[Mount]) -> Option<Requirement<'a>> {
    let destination = destination(mount);
    let above = destination.parent()?;
    if is_own(destination) || covering(above, mounts).is_some() {
        return None;
    }
    let source = match mount {
        Mount::Bind { source, .. } => Some(source.as_path()),
        Mount::Tmpfs { .. } => None,
    };
    if etc::is_etc_file(destination) && source.is_some_and(|source| !source.is_dir()) {
        return None;
    }
    Some(Requirement::Mount { source, destination })
}

/// The innermost mount that a path is in.
pub(super) fn covering<'a>(path: &Path, mounts: &'a [Mount]) -> Option<&'a Mount> {
    let covering = mounts.iter().filter(|mount| path.starts_with(destination(mount)));
    covering.max_by_key(|mount| destination(mount).components().count())
}

/// Whether a path is in a file system that every container has.
pub(super) fn is_own(path: &Path) -> bool {
    OWN.iter().any(|own| path.starts_with(own))
}

pub(super) fn destination(mount: &Mount) -> &Path {
    let (Mount::Bind { destination, .. } | Mount::Tmpfs { destination, .. }) = mount;
    destination
}

/// Checks a working directory in a mount. A missing one is no error, because it will be made; nor is a link, which may
/// lead to a path that exists only in the container.
fn mounted_cwd(cwd: &Path, mount: &Mount) -> Result<(), Misfit> {
    let Mount::Bind {
        source, destination, ..
    } = mount
    else {
        return Ok(());
    };
    let rest = cwd.strip_prefix(destination).unwrap_or_else(|_| Path::new(""));
    let found = match rest.as_os_str().is_empty() {
        true => std::fs::metadata(source).is_ok_and(|found| !found.is_dir()),
        false => std::fs::symlink_metadata(source.join(rest)).is_ok_and(|found| found.is_file()),
    };
    if !found {
        return Ok(());
    }
    Err(Misfit::MountedCwd {
        cwd: cwd.display().to_string(),
        path: source.components().chain(rest.components()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Ownership;

    fn bind(source: &Path, destination: &str) -> Mount {
        Mount::Bind {
            source: source.to_owned(),
            destination: destination.into(),
            readonly: true,
        }
    }

    const DIR: Place = Place::Directory(Ownership {
        uid: 0,
        gid: 0,
        mode: 0o755,
    });

    #[test]
    fn a_file_goes_on_a_file_and_a_directory_on_a_directory_and_both_on_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "x").unwrap();
        let fits = |source: &Path, place| {
            let mount = bind(source, "/d");
            let wanted = requirement_of(&mount, std::slice::from_ref(&mount)).unwrap();
            wanted
                .fits(wanted.path(), place, "i")
                .map_err(|error| error.to_string())
        };
        for (source, place) in [
            (dir.path(), DIR),
            (dir.path(), Place::Linked("/e".into())),
            (dir.path(), Place::Nothing("/d".into())),
            (&file, Place::File),
            (&file, Place::Nothing("/d".into())),
        ] {
            assert_eq!(fits(source, place.clone()), Ok(()), "{source:?} {place:?}");
        }
        let refused = fits(dir.path(), Place::File).unwrap_err();
        assert!(
            refused.contains("is a directory, and \"/d\" in image i is a file"),
            "{refused}"
        );
        let refused = fits(&file, DIR).unwrap_err();
        assert!(
            refused.contains("is a file, and \"/d\" in image i is a directory"),
            "{refused}"
        );
        assert!(fits(&file, Place::Linked("/e".into())).is_err());
        for source in [dir.path(), &file] {
            assert!(fits(source, Place::Blocked).unwrap_err().contains("no directory"));
        }
    }

    #[test]
    fn a_mount_within_another_mount_needs_nothing_of_the_image() {
        let mounts = [
            bind(Path::new("/s"), "/a"),
            bind(Path::new("/s"), "/a/b"),
            bind(Path::new("/s"), "/dev/x"),
        ];
        let asked: Vec<_> = mounts
            .iter()
            .filter_map(|mount| requirement_of(mount, &mounts))
            .map(|w| w.path())
            .collect();
        assert_eq!(asked, ["/a"]);
        // Here the container gets a file whatever the image has, so only a directory is checked.
        let (file, dir) = (
            bind(Path::new("/dev/null"), "/etc/hosts"),
            bind(Path::new("/"), "/etc/hosts"),
        );
        assert!(requirement_of(&file, &[]).is_none() && requirement_of(&dir, &[]).is_some());
        assert_eq!(with_parents("/a/b/c"), ["/a/b/c", "/a/b", "/a"]);
        let odd = bind(Path::new("/s"), "//c/./d/");
        assert_eq!(requirement_of(&odd, &[]).unwrap().path(), "/c/d");
    }

    #[test]
    fn a_working_directory_in_a_mount_is_checked_in_the_source() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "x").unwrap();
        let cwd = |path: &str| {
            let mounts = [bind(dir.path(), "/m"), bind(&dir.path().join("f"), "/m/file")];
            let mount = covering(Path::new(path), &mounts)?;
            Some(mounted_cwd(Path::new(path), mount).map_err(|error| error.to_string()))
        };
        assert_eq!(cwd("/elsewhere"), None);
        for fine in ["/m", "/m/new", "/m/new/er"] {
            assert_eq!(cwd(fine), Some(Ok(())), "{fine}");
        }
        for (bad, of) in [("/m/f", "f"), ("/m/file", "f")] {
            let error = cwd(bad).unwrap().unwrap_err();
            let path = dir.path().join(of);
            assert!(
                error.contains(bad) && error.contains(path.to_str().unwrap()),
                "{error}"
            );
        }
        let wanted = Requirement::Cwd(Path::new("/bin/sh"));
        for place in [Place::File, Place::Blocked] {
            let error = wanted.fits(wanted.path(), place, "i").unwrap_err().to_string();
            assert!(error.contains("/bin/sh") && error.contains("image i"), "{error}");
        }
        assert_eq!(wanted.fits(wanted.path(), DIR, "i"), Ok(()));
    }
}
