//! Kills every process of a container with one write, whether the processes are frozen or fork meanwhile.

use std::fs;

use super::error::{Error, is_gone};
use super::paths::Paths;

/// Sends SIGKILL to all processes of the container, and of the cgroups that it created, through `cgroup.kill` of the v2
/// tree. Returns when the kernel has sent the signals, not when the processes have ended. A container frozen by the v2
/// freezer dies without a thaw. A container that the v1 freezer holds, because a runtime's own pause froze it, is
/// thawed so that it can die.
///
/// # Errors
/// [`Error::Unsupported`] without a v2 tree or before kernel 5.14; [`Error::Gone`] if there is nothing left to kill.
pub(crate) fn kill_all(paths: &Paths) -> Result<(), Error> {
    let unsupported = || Error::Unsupported {
        path: paths.name(),
        what: "kill its processes at once",
        file: "cgroup.kill",
    };
    let dir = paths.v2.as_deref().ok_or_else(unsupported)?;
    // Opened without creating it: on a tree without the file, a plain write would create a regular file.
    let opened = fs::File::options().write(true).open(dir.join("cgroup.kill"));
    match opened.and_then(|mut file| std::io::Write::write_all(&mut file, b"1")) {
        Ok(()) => {
            release(paths);
            Ok(())
        }
        Err(error) if is_gone(&error) && dir.is_dir() => Err(unsupported()),
        Err(source) => Err(Error::io("write", dir, "cgroup.kill", source)),
    }
}

/// Thaws a container that a v1 freezer holds. There may be no such freezer, or no cgroup of the container left in it;
/// after a kill neither matters.
fn release(paths: &Paths) {
    let Some(state) = paths.freezer.as_ref().map(|dir| dir.join("freezer.state")) else {
        return;
    };
    let opened = fs::File::options().write(true).open(&state);
    if let Err(error) = opened.and_then(|mut file| std::io::Write::write_all(&mut file, b"THAWED")) {
        tracing::debug!(path = %state.display(), %error, "cannot thaw a cgroup whose processes were killed");
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Cgroup;
    use super::super::{Freezer, State};
    use super::*;

    #[test]
    fn a_tree_without_the_file_and_a_container_without_a_tree_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Paths {
            v2: Some(dir.path().to_owned()),
            ..Paths::default()
        };
        assert!(matches!(kill_all(&paths), Err(Error::Unsupported { .. })));
        assert!(!dir.path().join("cgroup.kill").exists());
        paths.v2 = Some(dir.path().join("gone"));
        assert!(kill_all(&paths).unwrap_err().is_gone());
        assert!(matches!(
            kill_all(&Paths::default()),
            Err(Error::Unsupported { .. })
        ));
    }

    #[tokio::test]
    async fn a_frozen_container_dies_without_a_thaw() {
        let Some(mut cgroup) = Cgroup::v2("kill") else {
            return;
        };
        cgroup.spawn(10);
        let freezer = Freezer::of(cgroup.paths()).unwrap();
        freezer.freeze(None).await.unwrap();
        kill_all(cgroup.paths()).unwrap();
        cgroup.wait_empty();
        assert_eq!(freezer.state().unwrap(), State::Frozen);
        cgroup.remove();
        assert!(kill_all(cgroup.paths()).unwrap_err().is_gone());
    }
}
