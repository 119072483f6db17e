//! Where programs are searched: in `PATH`, then in the system administration directories, which the `PATH` of a user or
//! a service may not contain.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directories of system administration programs.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The `PATH` of a private containerd, and so also of its shims and runtimes.
#[derive(Debug, Clone)]
pub(crate) struct SearchPath(OsString);

impl SearchPath {
    /// The search path of a containerd that this process would start.
    pub(crate) fn of_this_process() -> Self {
        Self::from(env::var_os("PATH").unwrap_or_default())
    }

    /// The search path of a running containerd: its `PATH`, then the directory of its own program, in which it searches
    /// shims too. `environ` and `exe` are the contents of the entries of these names in `/proc`.
    pub(crate) fn of_process(environ: &[u8], exe: &Path) -> Self {
        let path = environ
            .split(|byte| *byte == 0)
            .find_map(|variable| variable.strip_prefix(b"PATH="))
            .map(OsStr::from_bytes)
            .unwrap_or_default();
        let dirs = env::split_paths(path).chain(exe.parent().map(Path::to_owned));
        Self(env::join_paths(dirs).unwrap_or_default())
    }

    fn from(path: OsString) -> Self {
        // An empty PATH has no directories; splitting it returns one empty name, which means the working directory.
        let own = env::split_paths(&path).filter(|dir| !dir.as_os_str().is_empty());
        // Only a directory with a colon in its name cannot be joined, and splitting never returns such a name.
        Self(env::join_paths(own.chain(SBIN.map(PathBuf::from))).unwrap_or_default())
    }

    /// This search path behind another directory.
    pub(crate) fn behind(&self, dir: Option<PathBuf>) -> Self {
        let dirs = dir.into_iter().chain(env::split_paths(&self.0));
        // A directory with a colon in its name cannot be searched.
        env::join_paths(dirs).map_or_else(|_| self.clone(), Self)
    }

    /// The value for a `PATH` variable.
    pub(crate) fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// The first executable file of this name.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        env::split_paths(&self.0)
            .map(|dir| dir.join(program))
            .find(|file| executable(file))
    }
}

/// Whether this process may execute the file.
pub(crate) fn executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_administrators_directories_are_searched_whatever_the_path_says() {
        for (path, expected) in [
            ("/opt/bin", "/opt/bin:/usr/local/sbin:/usr/sbin:/sbin"),
            ("", "/usr/local/sbin:/usr/sbin:/sbin"),
            (":/opt/bin:", "/opt/bin:/usr/local/sbin:/usr/sbin:/sbin"),
        ] {
            assert_eq!(SearchPath::from(path.into()).as_os_str(), expected, "{path:?}");
        }
    }

    #[test]
    fn a_running_containerd_looks_in_its_own_path_and_beside_itself() {
        let path = SearchPath::of_process(b"A=PATH=no\0PATH=/usr/bin:/bin\0", Path::new("/opt/k/containerd"));
        assert_eq!(path.as_os_str(), "/usr/bin:/bin:/opt/k");
    }

    #[test]
    fn a_directory_can_be_searched_first() {
        let path = SearchPath("/usr/bin:/bin".into());
        assert_eq!(
            path.behind(Some("/srv/f".into())).as_os_str(),
            "/srv/f:/usr/bin:/bin"
        );
        assert_eq!(path.behind(Some("/srv/a:b".into())).as_os_str(), "/usr/bin:/bin");
        assert_eq!(path.behind(None).as_os_str(), "/usr/bin:/bin");
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_passed_over() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (dir, mode) in [(&first, 0o644), (&second, 0o755)] {
            let file = dir.path().join("fnctr-test-program");
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = env::join_paths([first.path(), second.path()]).unwrap();
        let found = SearchPath::from(path).find("fnctr-test-program").unwrap();
        assert!(found.starts_with(second.path()), "{found:?}");
    }
}
