//! Directories of the host, and file systems in memory, as a create asks for them.

use std::path::Path;

use fnctr_oci::{Mount, TmpfsAccess};

use super::body::{HostConfig, MountBody};
use crate::docker_api::refused::Refused;
use crate::docker_syntax;

/// The mounts of a container.
pub(super) fn of(host: &HostConfig, volumes: &[String]) -> Result<Vec<Mount>, Refused> {
    let mut mounts = Vec::new();
    for bind in &host.binds {
        mounts.push(bound(bind)?);
    }
    for mount in &host.mounts {
        mounts.push(long(mount)?);
    }
    for (path, options) in &host.tmpfs {
        if !path.starts_with('/') {
            return Err(Refused::bad(format!(
                "invalid mount path: '{path}' mount path must be absolute"
            )));
        }
        let mount = docker_syntax::tmpfs(&format!("{path}:{options}"));
        mounts.push(mount.map_err(|why| Refused::bad(format!("HostConfig.Tmpfs: {why}")))?);
    }
    // A volume at the place of a mount is that mount.
    let is_mounted = |path: &String| mounts.iter().any(|mount| destination(mount) == Path::new(path));
    match volumes.iter().find(|path| !is_mounted(path)) {
        Some(path) => Err(Refused::bad(format!(
            "Volumes: fnctr does not serve volumes, and {path:?} asks for one; bind a directory of the host there, or leave it out"
        ))),
        None => Ok(mounts),
    }
}

fn destination(mount: &Mount) -> &Path {
    match mount {
        Mount::Bind { destination, .. } | Mount::Tmpfs { destination, .. } => destination,
    }
}

/// `SOURCE:DESTINATION[:OPTIONS]`.
fn bound(bind: &str) -> Result<Mount, Refused> {
    let bad = || Refused::bad(format!("invalid volume specification: '{bind}'"));
    let parts: Vec<&str> = bind.split(':').collect();
    let (source, destination, options) = match parts.as_slice() {
        [source, destination] => (*source, *destination, ""),
        [source, destination, options] => (*source, *destination, *options),
        _ => return Err(bad()),
    };
    if !destination.starts_with('/') || source.is_empty() {
        return Err(bad());
    }
    if !source.starts_with('/') {
        return Err(Refused::bad(format!(
            "HostConfig.Binds: fnctr does not serve volumes, and {source:?} names one; give a directory of the host"
        )));
    }
    let mut readonly = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => readonly = true,
            // The default; labels of SELinux, which these hosts do not have; how soon Docker's virtual machine sees changes.
            "rw" | "z" | "Z" | "rprivate" | "cached" | "consistent" | "delegated" => {}
            "shared" | "rshared" | "slave" | "rslave" | "private" | "nocopy" => {
                return Err(Refused::bad(format!(
                    "HostConfig.Binds: the option {option:?} is not served by fnctr; there are ro and rw"
                )));
            }
            _ => return Err(Refused::failed(format!("invalid mode: {options}"))),
        }
    }
    Ok(Mount::Bind {
        source: source.into(),
        destination: destination.into(),
        readonly,
    })
}

fn long(mount: &MountBody) -> Result<Mount, Refused> {
    let MountBody {
        kind, source, target, ..
    } = mount;
    let invalid = |why: String| Refused::bad(format!("invalid mount config for type \"{kind}\": {why}"));
    if !target.starts_with('/') {
        return Err(invalid(match target.is_empty() {
            true => "field Target must not be empty".to_owned(),
            false => format!("invalid mount path: '{target}' mount path must be absolute"),
        }));
    }
    match kind.as_str() {
        "bind" if source.is_empty() => Err(invalid("field Source must not be empty".to_owned())),
        "bind" if !source.starts_with('/') => Err(invalid(format!(
            "invalid mount path: '{source}' mount path must be absolute"
        ))),
        "bind" => Ok(Mount::Bind {
            source: source.into(),
            destination: target.into(),
            readonly: mount.read_only,
        }),
        "tmpfs" => Ok(Mount::Tmpfs {
            destination: target.into(),
            size: u64::try_from(mount.tmpfs_size).ok().filter(|size| *size != 0),
            inodes: None,
            access: TmpfsAccess {
                readonly: mount.read_only,
                mode: mount
                    .tmpfs_mode
                    .and_then(|mode| u32::try_from(mode).ok())
                    .unwrap_or_else(|| TmpfsAccess::default().mode),
                ..TmpfsAccess::default()
            },
        }),
        "volume" | "npipe" | "cluster" | "image" => Err(Refused::bad(format!(
            "HostConfig.Mounts: mounts of the type {kind:?} are not served by fnctr; there are bind and tmpfs"
        ))),
        _ => Err(invalid("mount type unknown".to_owned())),
    }
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
        make(bind.split(':').next().unwrap_or_default())?;
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
