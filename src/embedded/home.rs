//! The paths of a private containerd's files and directories, without their contents.

use std::path::{Path, PathBuf};

use super::{Error, private};
use crate::cgroup::DEFAULT_PARENT;
use crate::ids::stable_hash;

/// The longest path that a Unix socket can have on Linux, without the final NUL.
const MAX_SOCKET: usize = 107;

/// The characters that separate the options of an overlay mount, separate the layers in one option, or escape
/// (overlayfs.rst). containerd puts the paths of its snapshots into these options unchanged.
const SEPARATORS: [char; 3] = [',', ':', '\\'];

/// The first character in a path that makes it impossible to mount an overlay from there.
pub(crate) fn separator_in(path: &Path) -> Option<char> {
    path.to_string_lossy().chars().find(|c| SEPARATORS.contains(c))
}

/// The directories of one private containerd. Equal homes belong to the same containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    run: PathBuf,
}

impl Home {
    /// A home with everything below one directory, however its path is spelled.
    #[must_use]
    pub fn under(dir: &Path) -> Self {
        let dir = private::real_name(dir);
        Self {
            root: dir.join("root"),
            run: dir,
        }
    }

    /// The home of the host itself: images in `/var/lib/fnctr`, and what should not survive a reboot in `/run/fnctr`.
    #[must_use]
    pub fn system() -> Self {
        Self {
            root: "/var/lib/fnctr/containerd".into(),
            run: "/run/fnctr".into(),
        }
    }

    /// The directory of images and snapshots.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of sockets, locks, state and log.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The socket on which containerd listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    /// The directory in which runc, or another OCI runtime, keeps the state of this containerd's containers. The
    /// runtime's default directory is the same for every containerd of a host, so there, containers with equal names
    /// would collide.
    #[must_use]
    pub fn runc_root(&self) -> PathBuf {
        self.run.join("runc")
    }

    /// The parent of the cgroups of this containerd's containers, for the file system. Below a parent shared by several
    /// homes, containers with equal namespaces and names would have the same cgroup, so each would be killed and frozen
    /// with the other.
    #[must_use]
    pub fn cgroup_parent(&self) -> String {
        if self.is_system() {
            return DEFAULT_PARENT.to_owned();
        }
        let hash = stable_hash(self.run.as_os_str().as_encoded_bytes());
        format!("{DEFAULT_PARENT}-{:08x}", hash >> 32)
    }

    /// The directory for the fifos of this containerd's containers.
    #[must_use]
    pub fn fifo_dir(&self) -> PathBuf {
        if self.is_system() {
            self.run.clone()
        } else {
            self.run.join("fifos")
        }
    }

    /// The directory that records which of this containerd's containers are attached to networks.
    #[must_use]
    pub fn sandbox_dir(&self) -> PathBuf {
        if self.is_system() {
            "/var/lib/fnctr/sandboxes".into()
        } else {
            self.run.join("sandboxes")
        }
    }

    /// The directory for what outlives a reboot beside images: the output that is kept of containers.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        if self.is_system() {
            "/var/lib/fnctr".into()
        } else {
            self.run.join("data")
        }
    }

    /// Whether this is the host's home, which uses the same paths as a driver without a private containerd.
    pub(super) fn is_system(&self) -> bool {
        *self == Self::system()
    }

    /// The directory of the program that stands before the shim.
    pub(super) fn shim_dir(&self) -> PathBuf {
        if self.is_system() {
            // Not in /run, where on many hosts nothing may be executed.
            "/var/lib/fnctr/shim".into()
        } else {
            self.run.join("shim")
        }
    }

    pub(super) fn ttrpc_socket(&self) -> PathBuf {
        self.run.join("containerd.sock.ttrpc")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.run.join("containerd.log")
    }

    pub(super) fn config(&self) -> PathBuf {
        self.run.join("containerd.toml")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.run.join("state")
    }

    pub(super) fn start_lock(&self) -> PathBuf {
        self.run.join("start.lock")
    }

    pub(super) fn users_lock(&self) -> PathBuf {
        self.run.join("users.lock")
    }

    /// Refuses a home whose socket paths are too long for the kernel, or whose name cannot be written in containerd's
    /// configuration or in the options of an overlay.
    pub(super) fn check(&self) -> Result<(), Error> {
        let longest = self.ttrpc_socket();
        let len = longest.as_os_str().len();
        if len > MAX_SOCKET {
            return Err(Error::PathTooLong {
                path: longest,
                len,
                max: MAX_SOCKET,
            });
        }
        for dir in [&self.root, &self.run] {
            if dir.to_str().is_none() {
                return Err(Error::NotText { path: dir.clone() });
            }
        }
        match separator_in(&self.root) {
            Some(separator) => Err(Error::Separator {
                path: self.root.clone(),
                separator,
            }),
            None => Ok(()),
        }
    }

    /// Checks whether a containerd can use this home, as far as possible without creating anything.
    pub(crate) fn would_do(&self) -> Result<(), Error> {
        self.check()?;
        for dir in [&self.run, &self.root].into_iter().filter(|dir| dir.exists()) {
            private::ours(dir)?;
        }
        Ok(())
    }

    /// Creates the directories, closed to other users, and returns the home with its canonical paths, because two
    /// processes that spell the path differently must agree on its sockets and on the command line of its containerd.
    pub(super) fn create(&self) -> Result<Self, Error> {
        // Checked first, so that nothing is created in a place that is refused.
        self.check()?;
        let real = Self {
            run: private::dir(&self.run)?,
            root: private::dir(&self.root)?,
        };
        real.check()?;
        Ok(real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_whose_socket_path_is_too_long_is_refused_with_both_lengths() {
        let fits = format!("/{}", "d".repeat(MAX_SOCKET - "//containerd.sock.ttrpc".len()));
        assert!(Home::under(Path::new(&fits)).check().is_ok());
        let error = Home::under(Path::new(&format!("{fits}d"))).check().unwrap_err();
        assert!(
            error.to_string().contains("108 bytes long, but at most 107"),
            "{error}"
        );
    }

    #[test]
    fn a_place_whose_name_would_end_an_option_of_overlay_is_refused_by_it_before_anything_is_made() {
        let top = tempfile::tempdir().unwrap();
        for (name, separator) in [("a:b", "':'"), ("a,b", "','"), ("a\\b", r"'\\'")] {
            let dir = top.path().join(name);
            let error = Home::under(&dir).would_do().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(separator), "{error}");
            Home::under(&dir.join("below")).create().unwrap_err();
            assert!(!dir.exists(), "{name} was made");
        }
        // Also refused if the path leads there through a link.
        std::fs::create_dir(top.path().join("real:name")).unwrap();
        std::os::unix::fs::symlink("real:name", top.path().join("link")).unwrap();
        Home::under(&top.path().join("link")).would_do().unwrap_err();
        for fine in ["a b", "a=b", "a'\"b", "é"] {
            Home::under(&top.path().join(fine)).would_do().unwrap();
        }
    }

    #[test]
    fn two_places_share_no_directory_and_no_cgroup_and_the_hosts_own_has_the_usual_ones() {
        let (one, two, system) = (
            Home::under(Path::new("/srv/one")),
            Home::under(Path::new("/srv/two")),
            Home::system(),
        );
        assert_eq!(system.cgroup_parent(), "/fnctr");
        assert_eq!(
            one.cgroup_parent(),
            Home::under(Path::new("/srv/./one")).cgroup_parent()
        );
        for (a, b) in [(&one, &two), (&one, &system)] {
            assert_ne!(a.cgroup_parent(), b.cgroup_parent());
            assert_ne!(a.fifo_dir(), b.fifo_dir());
            assert_ne!(a.sandbox_dir(), b.sandbox_dir());
            assert_ne!(a.runc_root(), b.runc_root());
        }
    }

    #[test]
    fn every_spelling_of_a_place_is_the_same_home() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&top, top.join("link")).unwrap();
        let home = Home::under(&top.join("r"));
        for spelling in ["link/r", "link/./r", "./r", "no/../r"] {
            let other = Home::under(&top.join(spelling));
            assert_eq!(other, home, "{spelling}");
            assert_eq!(other.create().unwrap(), home, "{spelling}");
        }
        assert!(Home::under(Path::new("here")).socket().is_absolute());
    }

    #[test]
    fn a_link_that_was_put_there_later_is_resolved_when_the_home_is_made() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let home = Home::under(&top.join("late"));
        std::fs::create_dir(top.join("r")).unwrap();
        std::os::unix::fs::symlink("r", top.join("late")).unwrap();
        assert_eq!(home.create().unwrap(), Home::under(&top.join("r")));
    }

    #[test]
    fn a_place_that_others_can_write_is_refused_before_anything_is_put_there() {
        use std::os::unix::fs::PermissionsExt as _;

        let top = tempfile::tempdir().unwrap();
        std::fs::set_permissions(top.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = Home::under(top.path()).create().unwrap_err();
        assert!(matches!(error, Error::Writable { .. }), "{error:?}");
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }
}
