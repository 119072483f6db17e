//! An entry of `HostConfig.Tmpfs`: a path and its options.

use super::mounted::Mounted;
use crate::docker_api::refused::Refused;
use crate::docker_syntax;

/// Reads an entry.
pub(super) fn read(path: &str, options: &str) -> Result<Mounted, Refused> {
    if !path.starts_with('/') {
        return Err(Refused::bad(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    let mount = docker_syntax::tmpfs(&format!("{path}:{options}"));
    let mount = mount.map_err(|why| Refused::bad(format!("HostConfig.Tmpfs: {why}")))?;
    Ok(Mounted::Mount(mount))
}
