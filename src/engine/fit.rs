//! Checks that the configured snapshotter and runtime exist, so that a misspelt name is refused at connect, and not at
//! the first container.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Config;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use crate::Context;
use crate::containerd::{SNAPSHOTTER, Session};

/// The name of a snapshot that never exists.
const NO_SNAPSHOT: &str = "fnctr.none";

/// containerd's own snapshotter that mounts overlays. It writes the paths of its files into the mount options without
/// escapes.
const OVERLAY: &str = "overlayfs";

/// The characters that separate the options, separate the layers in an option, and escape (overlayfs.rst).
const SEPARATORS: [char; 3] = [',', ':', '\\'];

/// Fails unless containerd has the configured snapshotter, in a directory that it can mount from, and the runtime's
/// binary is where containerd finds it.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn check(session: &Session, ctx: &Context, config: &Config, daemon: u32) -> Result<()> {
    let refused = |why: String| Err(Error::new(Step::Connect, "containers", Kind::InvalidPlan, why));
    let snapshots = session.snapshots(&config.snapshotter);
    let unmountable = async {
        match config.snapshotter == OVERLAY {
            true => unmountable(session, ctx).await,
            false => None,
        }
    };
    let (none, unmountable) = tokio::join!(snapshots.stat(ctx, NO_SNAPSHOT), unmountable);
    match none {
        Err(error) if error.is_invalid() => {
            return refused(format!(
                "snapshotter {:?} is not one of this containerd's; `ctr plugins ls` lists them",
                config.snapshotter
            ));
        }
        Err(error) if !error.is_not_found() => return Err(error).at(Step::Connect, "snapshots"),
        Ok(_) | Err(_) => {}
    }
    if let Some((root, separator)) = unmountable {
        return refused(format!(
            "containerd keeps its snapshots in {root:?}, where {separator:?} would separate the options of an overlay mount; set \
             root in its configuration to a directory without it"
        ));
    }
    let Some(binary) = &config.runtime.binary else {
        return Ok(());
    };
    let path = Path::new(binary);
    let is_there = if binary.contains('/') {
        path.is_absolute() && is_program(path)
    } else {
        let dirs = path_of(daemon);
        // A containerd whose environment cannot be read may look anywhere.
        dirs.is_empty() || dirs.iter().any(|dir| is_program(&dir.join(binary)))
    };
    if !is_there {
        return refused(format!(
            "runtime {binary:?} is neither the absolute path of a program nor the name of one on containerd's PATH"
        ));
    }
    Ok(())
}

/// The directory of the overlays' files, and the character in it that makes the mount fail. If containerd does not
/// report it, nothing is refused: the first container shows the problem.
async fn unmountable(session: &Session, ctx: &Context) -> Option<(String, char)> {
    let introspection = session.introspection();
    let plugin = introspection.plugin(ctx, SNAPSHOTTER, OVERLAY).await;
    let mut exports = plugin.ok()??.exports;
    separated(exports.remove("root")?)
}

fn separated(root: String) -> Option<(String, char)> {
    let separator = root.chars().find(|c| SEPARATORS.contains(c))?;
    Some((root, separator))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The directories in which a process looks for programs; none if its environment cannot be read.
fn path_of(pid: u32) -> Vec<PathBuf> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let path = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"PATH="));
    let path = path.map(std::ffi::OsStr::from_bytes);
    path.map(|path| std::env::split_paths(path).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::separated;

    #[test]
    fn a_directory_whose_name_would_end_an_option_is_reported_with_the_character() {
        for (root, separator) in [("/a:b/fs", ':'), ("/a,b", ','), ("/a\\b", '\\')] {
            assert_eq!(separated(root.to_owned()), Some((root.to_owned(), separator)));
        }
        assert_eq!(separated("/var/lib/a b=c".to_owned()), None);
    }
}
