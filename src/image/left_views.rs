//! Mount points of views of images that a killed process has left. It has them for the microseconds between a mount and its
//! detachment.

use std::path::Path;

use nix::mount::{MntFlags, umount2};

use super::rootfs::VIEW;

/// Removes the mount points of processes that are gone, beneath the run directory. Process ids must be those of this
/// process's own pid namespace.
pub(crate) fn remove_left_views(run_dir: &Path) {
    let entries = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let pid = name.to_str().and_then(owner);
        if pid.is_none_or(|pid| Path::new("/proc").join(pid.to_string()).exists()) {
            continue;
        }
        let at = entry.path();
        // It may have been killed before the mount.
        if let Err(error) = umount2(&at, MntFlags::MNT_DETACH) {
            tracing::debug!(%error, at = %at.display(), "nothing is mounted where a killed process had a view");
        }
        if let Err(error) = std::fs::remove_dir(&at) {
            tracing::debug!(%error, at = %at.display(), "cannot remove what a killed process has left");
        }
    }
}

/// The process that a mount point's name begins with; see [`crate::ids::unique`].
fn owner(name: &str) -> Option<u32> {
    let rest = name
        .strip_prefix("fnctr-")?
        .strip_prefix(VIEW)?
        .strip_prefix('-')?;
    rest.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::scratch::unique;
    use super::*;

    #[test]
    fn what_a_process_that_is_gone_has_left_is_removed_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        // Larger than any process id (proc(5), `pid_max`).
        let left = format!("fnctr-{VIEW}-4194305-1-2");
        let stay = [unique(VIEW), "mine".to_owned(), format!("fnctr-{VIEW}-x")];
        for name in stay.iter().chain([&left]) {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        remove_left_views(dir.path());
        let is_there = |name: &String| dir.path().join(name).exists();
        assert!(!is_there(&left) && stay.iter().all(is_there));
    }
}
