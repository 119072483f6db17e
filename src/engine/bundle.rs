//! The directory in which containerd keeps the files of a container that has a task (its bundle), once containerd has
//! given up removing it.
//!
//! When a shim ends in the middle of a create, containerd cleans up for at most five seconds and tries to unmount the
//! root file system for two and a half (cleanupTimeout in its runtime/v2/shim.go, UnmountAll in mount/mount_linux.go). A
//! runtime that still works on the container keeps the mount busy for longer on a slow machine. Then the mount and the
//! bundle stay until containerd's next start, and each later task of the name fails with "file exists" (moby#50040).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use super::Deps;
use crate::mountinfo::mounts;
use crate::{ContainerId, Namespace, containerd};

/// The directory of all bundles, below containerd's state directory.
const BUNDLES: &str = "io.containerd.runtime.v2.task";
/// The mount point of the container's root file system in its bundle.
const ROOTFS: &str = "rootfs";

/// A bundle of one container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bundle(PathBuf);

impl Bundle {
    /// The working directory of a shim, if that is the container's bundle.
    pub(super) fn of_shim(cwd: PathBuf, namespace: &str, id: &str) -> Option<Self> {
        // A directory that was removed has another name.
        cwd.ends_with(Path::new(namespace).join(id)).then_some(Self(cwd))
    }

    /// The bundles of a container in which a root file system is mounted, of every containerd. Searches all mounts.
    fn mounted(mountinfo: &str, namespace: &Namespace, id: &ContainerId) -> Vec<Self> {
        let all = Path::new(BUNDLES).join(namespace.as_str());
        // containerd renames a bundle before it removes its files.
        let names = [id.as_str().to_owned(), format!(".{id}")].map(|name| all.join(name).join(ROOTFS));
        let points = mounts(mountinfo).map(|mount| PathBuf::from(mount.point));
        let of_it = points.filter(|point| names.iter().any(|name| point.ends_with(name)));
        of_it
            .filter_map(|point| Some(Self(point.parent()?.to_owned())))
            .collect()
    }

    /// The bundle that kept containerd from making a task, as its refusal names it.
    fn named_by(refusal: &str, namespace: &Namespace, id: &ContainerId) -> Option<Self> {
        let (_, path) = refusal.split_once("mkdir ")?;
        let (path, _) = path.split_once(": file exists")?;
        let name = Path::new(BUNDLES).join(namespace.as_str()).join(id.as_str());
        (path.starts_with('/') && Path::new(path).ends_with(name)).then(|| Self(path.into()))
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The bundles in a directory, with their containers.
    fn all_in(dir: &Path) -> Vec<(ContainerId, Self)> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let found = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            // containerd renames a bundle before it removes its files.
            let id = ContainerId::new(name.strip_prefix('.').unwrap_or(&name)).ok()?;
            Some((id, Self(entry.path())))
        });
        found.collect()
    }

    /// Unmounts the root file system and removes the bundle. What cannot be removed is left to containerd's next start.
    pub(super) fn remove(&self) {
        let rootfs = self.0.join(ROOTFS);
        // Detached, because a runtime may still use it.
        let unmounted = umount2(&rootfs, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok();
        // Fails if it is still mounted, or was never empty, so nothing of a container is removed below.
        match std::fs::remove_dir(&rootfs) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(bundle = %self.0.display(), %error, "cannot remove the bundle of a lost task");
                return;
            }
            _ => {}
        }
        let work = std::fs::read_link(self.0.join("work"));
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        files.for_each(|file| drop(std::fs::remove_file(file.path())));
        drop(work.and_then(std::fs::remove_dir));
        let removed = std::fs::remove_dir(&self.0).is_ok();
        if unmounted || removed {
            tracing::warn!(bundle = %self.0.display(), unmounted, removed, "removed the bundle of a lost task");
        }
    }
}

impl Deps {
    /// All bundles of this containerd namespace, with their containers. None are found until a shim of this engine's
    /// containerd has been seen, whose working directory shows where they are.
    pub(super) fn bundles(&self) -> Vec<(ContainerId, Bundle)> {
        if self.bundles_dir.get().is_none()
            && let Some(dir) = self
                .own_bundle()
                .and_then(|bundle| Some(bundle.0.parent()?.to_owned()))
        {
            drop(self.bundles_dir.set(dir));
        }
        self.bundles_dir
            .get()
            .map_or_else(Vec::new, |dir| Bundle::all_in(dir))
    }

    /// Removes bundles that containerd has left although their task and shims have ended.
    pub(super) fn remove_mounted_bundles(&self, id: &ContainerId) {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let left = Bundle::mounted(&mountinfo, &self.config.namespace, id);
        // Another containerd's container of this name has a shim.
        if !left.is_empty() && self.shims_of(id).is_empty() {
            left.iter().for_each(Bundle::remove);
        }
    }

    /// Removes the bundle that kept containerd from making a task. Returns whether the refusal names one.
    pub(super) fn remove_bundle_named_by(&self, refusal: &containerd::Error, id: &ContainerId) -> bool {
        let named = refusal
            .message()
            .and_then(|text| Bundle::named_by(text, &self.config.namespace, id));
        let left = named.filter(|_| self.shims_of(id).is_empty());
        left.iter().for_each(Bundle::remove);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "/run/containerd/io.containerd.runtime.v2.task";

    fn names() -> (Namespace, ContainerId) {
        (Namespace::new("fnctr").unwrap(), ContainerId::new("c1").unwrap())
    }

    #[test]
    fn only_the_containers_own_bundle_is_found_by_its_mount() {
        let (namespace, id) = names();
        let mount = |point: &str| format!("45 27 0:39 / {point} rw shared:1 - overlay overlay rw\n");
        let [own, renamed] = ["c1", ".c1"].map(|name| format!("{STATE}/fnctr/{name}"));
        let others = ["fnctr/c12", "fnctr/xc1", "other/c1"].map(|other| format!("{STATE}/{other}/rootfs"));
        let mut all: String = others.iter().map(|point| mount(point)).collect();
        assert_eq!(Bundle::mounted(&all, &namespace, &id), []);
        all.push_str(&mount(&format!("{own}/rootfs")));
        all.push_str(&mount(&format!("{renamed}/rootfs")));
        let found = Bundle::mounted(&all, &namespace, &id);
        assert_eq!(found, [Bundle(own.into()), Bundle(renamed.into())]);
    }

    #[test]
    fn only_the_containers_own_bundle_is_taken_from_a_refusal() {
        let (namespace, id) = names();
        let named = |path: &str| {
            let refusal = format!("failed to start shim: mkdir {path}: file exists: unknown");
            Bundle::named_by(&refusal, &namespace, &id)
        };
        let own = format!("{STATE}/fnctr/c1");
        assert_eq!(named(&own), Some(Bundle(own.into())));
        for other in ["fnctr/c2", "other/c1", "fnctr/c1/rootfs"] {
            assert_eq!(named(&format!("{STATE}/{other}")), None, "{other}");
        }
        assert_eq!(named("/etc/fnctr/c1"), None);
        assert_eq!(
            Bundle::named_by("container already exists", &namespace, &id),
            None
        );
    }

    #[test]
    fn a_bundle_is_removed_with_its_files_and_one_with_a_directory_in_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, work) = (dir.path().join("c1"), dir.path().join("work"));
        std::fs::create_dir_all(path.join(ROOTFS)).unwrap();
        std::fs::create_dir(&work).unwrap();
        std::fs::write(path.join("config.json"), "{}").unwrap();
        std::os::unix::fs::symlink(&work, path.join("work")).unwrap();
        let bundle = Bundle(path.clone());
        std::fs::write(path.join("rootfs/file"), "a tenant's").unwrap();
        bundle.remove();
        assert!(path.join("rootfs/file").exists() && path.join("config.json").exists());
        std::fs::remove_file(path.join("rootfs/file")).unwrap();
        bundle.remove();
        assert!(!path.exists() && !work.exists());
    }
}
