//! What a create asks to mount: directories of the host, volumes, and file systems in memory.

mod declared;
mod lent;
mod long;
mod mounted;
mod short;
mod storage;
mod tmpfs;

use std::path::Path;

pub(super) use self::declared::{add_declared, declared_by_all};
pub(super) use self::lent::{Lender, Lent};
pub(super) use self::long::shown;
pub(super) use self::storage::Storage;
use super::body::HostConfig;
use crate::docker_api::refused::Refused;

/// What a create mounts, but for the volumes that the container or its image declares. What the client names goes before what
/// other containers lend.
pub(super) fn of(host: &HostConfig, lent: &[Lent]) -> Result<Storage, Refused> {
    let mut storage = Storage::default();
    for bind in &host.binds {
        storage.add(short::read(bind)?)?;
    }
    for mount in &host.mounts {
        storage.add(long::read(mount)?)?;
    }
    for (path, options) in &host.tmpfs {
        storage.add(tmpfs::read(path, options)?)?;
    }
    // Of several that have the same place, the last one counts.
    for lent in lent.iter().rev() {
        storage.add_missing(lent);
    }
    Ok(storage)
}

/// Makes the directories of the host that binds in the short form name and that are missing, as Docker does; those of
/// the long form must be there.
pub(super) fn prepare(host: &HostConfig) -> Result<(), Refused> {
    for mount in host.mounts.iter().filter(|mount| mount.kind == "bind") {
        if mount.is_made {
            make(&mount.source)?;
        } else if !Path::new(&mount.source).exists() {
            return Err(Refused::bad(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                mount.source
            )));
        }
    }
    for bind in &host.binds {
        if let Some(source) = short::host_directory(bind) {
            make(source)?;
        }
    }
    Ok(())
}

/// Makes a directory, unless there is something already.
fn make(source: &str) -> Result<(), Refused> {
    match std::fs::create_dir_all(source) {
        Err(error) if !Path::new(source).exists() => Err(Refused::failed(format!(
            "error while creating mount source path '{source}': {error}"
        ))),
        _ => Ok(()),
    }
}
