//! The long form of a mount, an entry of `HostConfig.Mounts`.

use fnctr_oci::{Mount, TmpfsAccess};
use serde_json::{Map, Value, json};

use super::super::body::MountBody;
use super::mounted::Mounted;
use crate::docker_api::refused::Refused;
use crate::docker_api::volume_names;
use crate::engine::{NewVolume, VolumeUse};

/// Reads an entry.
pub(super) fn read(mount: &MountBody) -> Result<Mounted, Refused> {
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
        "bind" => Ok(Mounted::Mount(Mount::Bind {
            source: source.into(),
            destination: target.into(),
            readonly: mount.read_only,
        })),
        "volume" => volume(mount),
        "tmpfs" => Ok(Mounted::Mount(Mount::Tmpfs {
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
        })),
        "npipe" | "cluster" | "image" => Err(Refused::bad(format!(
            "HostConfig.Mounts: mounts of the type {kind:?} are not served by fnctr; there are bind, volume and tmpfs"
        ))),
        _ => Err(invalid("mount type unknown".to_owned())),
    }
}

fn volume(mount: &MountBody) -> Result<Mounted, Refused> {
    let used = match mount.source.as_str() {
        "" => VolumeUse::anonymous(&mount.target),
        name => VolumeUse::new(volume_names::name(name)?, &mount.target),
    };
    let MountBody {
        volume_driver,
        volume_options,
        ..
    } = mount;
    let options = volume_names::options(used.name.as_str(), volume_driver, volume_options.clone())?;
    let made_with = NewVolume {
        labels: mount.volume_labels.clone(),
        options,
        ..used.made_with.clone()
    };
    Ok(Mounted::Volume(VolumeUse {
        readonly: mount.read_only,
        is_filled: !mount.is_not_filled,
        made_with,
        ..used
    }))
}

/// The entries as a client sends them.
pub(in crate::docker_api::containers) fn shown(mounts: &[MountBody]) -> Value {
    mounts.iter().map(entry).collect()
}

fn entry(mount: &MountBody) -> Value {
    let mut shown = Map::new();
    let mut put = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    put("Type", json!(mount.kind));
    if !mount.source.is_empty() {
        put("Source", json!(mount.source));
    }
    put("Target", json!(mount.target));
    if mount.read_only {
        put("ReadOnly", json!(true));
    }
    if mount.is_made {
        put("BindOptions", json!({ "CreateMountpoint": true }));
    }
    let mut of_volume = Map::new();
    if mount.is_not_filled {
        of_volume.insert("NoCopy".to_owned(), json!(true));
    }
    if !mount.volume_labels.is_empty() {
        of_volume.insert("Labels".to_owned(), json!(mount.volume_labels));
    }
    if !mount.volume_driver.is_empty() || !mount.volume_options.is_empty() {
        let driver = json!({ "Name": mount.volume_driver, "Options": mount.volume_options });
        of_volume.insert("DriverConfig".to_owned(), driver);
    }
    if !of_volume.is_empty() {
        put("VolumeOptions", of_volume.into());
    }
    if mount.tmpfs_size != 0 || mount.tmpfs_mode.is_some() {
        let options = json!({ "SizeBytes": mount.tmpfs_size, "Mode": mount.tmpfs_mode });
        put("TmpfsOptions", options);
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_made_with_the_labels_and_options_of_its_mount() {
        let mount = MountBody {
            kind: "volume".to_owned(),
            source: "data".to_owned(),
            target: "/d".to_owned(),
            is_not_filled: true,
            volume_labels: [("a".to_owned(), "b".to_owned())].into(),
            volume_options: [("type", "none"), ("o", "bind"), ("device", "/srv")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..MountBody::default()
        };
        let Mounted::Volume(used) = read(&mount).unwrap() else {
            panic!("a volume");
        };
        assert!(!used.is_filled && !used.is_anonymous());
        assert_eq!(used.made_with.labels, mount.volume_labels);
        assert_eq!(used.made_with.options.device(), Some("/srv".into()));
        assert_eq!(
            shown(std::slice::from_ref(&mount)),
            json!([{
                "Type": "volume", "Source": "data", "Target": "/d",
                "VolumeOptions": {
                    "NoCopy": true, "Labels": { "a": "b" },
                    "DriverConfig": { "Name": "", "Options": { "type": "none", "o": "bind", "device": "/srv" } },
                },
            }])
        );
        let nameless = MountBody {
            source: String::new(),
            ..mount
        };
        let Mounted::Volume(used) = read(&nameless).unwrap() else {
            panic!("a volume");
        };
        assert!(used.is_anonymous() && used.name.as_str().len() == 64);
    }
}
