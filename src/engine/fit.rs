//! Whether what is configured by name is there: what is misspelt is refused at connect, not at the first container.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Config;
use super::error::{At as _, Error, Kind, Result, Step};
use crate::Context;
use crate::containerd::Session;

/// A snapshot that nobody makes.
const NO_SNAPSHOT: &str = "fnctr.none";

/// Fails unless containerd has the configured snapshotter, and the runtime's binary is where containerd finds it.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn check(session: &Session, ctx: &Context, config: &Config, daemon: u32) -> Result<()> {
    let refused = |why: String| Err(Error::new(Step::Connect, "containers", Kind::InvalidPlan, why));
    match session
        .snapshots(&config.snapshotter)
        .stat(ctx, NO_SNAPSHOT)
        .await
    {
        Err(error) if error.is_invalid() => {
            return refused(format!(
                "snapshotter {:?} is not one of this containerd's; `ctr plugins ls` lists them",
                config.snapshotter
            ));
        }
        Err(error) if !error.is_not_found() => return Err(error).at(Step::Connect, "snapshots"),
        Ok(_) | Err(_) => {}
    }
    let Some(binary) = &config.runtime.binary else {
        return Ok(());
    };
    let path = Path::new(binary);
    let is_there = if binary.contains('/') {
        path.is_absolute() && is_program(path)
    } else {
        let dirs = path_of(daemon);
        // One whose environment cannot be read may look anywhere.
        dirs.is_empty() || dirs.iter().any(|dir| is_program(&dir.join(binary)))
    };
    if !is_there {
        return refused(format!(
            "runtime {binary:?} is neither the absolute path of a program nor the name of one on containerd's PATH"
        ));
    }
    Ok(())
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
