//! The short form of a mount, an entry of `HostConfig.Binds`: `SOURCE:DESTINATION[:OPTIONS]`, whose source is a directory of
//! the host or the name of a volume.

use fnctr_oci::Mount;

use super::mounted::Mounted;

use crate::docker_api::refused::Refused;
use crate::docker_api::volume_names;
use crate::engine::VolumeUse;

/// Reads an entry.
pub(super) fn read(bind: &str) -> Result<Mounted, Refused> {
    let bad = || Refused::bad(format!("invalid volume specification: '{bind}'"));
    let parts: Vec<&str> = bind.split(':').collect();
    let (source, destination, options) = match parts.as_slice() {
        [destination] => ("", *destination, ""),
        [source, destination] => (*source, *destination, ""),
        [source, destination, options] => (*source, *destination, *options),
        _ => return Err(bad()),
    };
    if !destination.starts_with('/') || (source.is_empty() && parts.len() > 1) {
        return Err(bad());
    }
    let options = Options::read(options)?;
    if source.starts_with('/') {
        return match options.is_filled {
            true => Ok(Mounted::Mount(Mount::Bind {
                source: source.into(),
                destination: destination.into(),
                readonly: options.readonly,
            })),
            false => Err(Refused::failed("invalid mode: nocopy")),
        };
    }
    let used = match source {
        "" => VolumeUse::anonymous(destination),
        name => VolumeUse::new(volume_names::name(name)?, destination),
    };
    Ok(Mounted::Volume(VolumeUse {
        readonly: options.readonly,
        is_filled: options.is_filled,
        ..used
    }))
}

/// The directory of the host that an entry names, if it names one.
pub(super) fn host_directory(bind: &str) -> Option<&str> {
    let (source, _) = bind.split_once(':')?;
    source.starts_with('/').then_some(source)
}

/// The options of an entry.
#[derive(Debug, Clone, Copy)]
struct Options {
    readonly: bool,
    /// Whether an empty volume gets the image's files.
    is_filled: bool,
}

impl Options {
    fn read(options: &str) -> Result<Self, Refused> {
        let mut this = Self {
            readonly: false,
            is_filled: true,
        };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => this.readonly = true,
                "nocopy" => this.is_filled = false,
                // The default; labels of SELinux, which these hosts do not have; how soon Docker's virtual machine sees changes.
                "rw" | "z" | "Z" | "rprivate" | "cached" | "consistent" | "delegated" => {}
                "shared" | "rshared" | "slave" | "rslave" | "private" => {
                    return Err(Refused::bad(format!(
                        "HostConfig.Binds: the option {option:?} is not served by fnctr; there are ro, rw and nocopy"
                    )));
                }
                _ => return Err(Refused::failed(format!("invalid mode: {options}"))),
            }
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_no_path_is_the_name_of_a_volume() {
        let volume = |bind: &str| match read(bind).unwrap() {
            Mounted::Volume(used) => used,
            Mounted::Mount(mount) => panic!("{bind}: {mount:?}"),
        };
        let named = volume("data:/d:ro,nocopy");
        assert_eq!(named.name.as_str(), "data");
        assert!(named.readonly && !named.is_filled && !named.is_anonymous());
        let nameless = volume("/d");
        assert!(nameless.is_anonymous() && nameless.is_filled);
        assert!(matches!(
            read("/a:/d").unwrap(),
            Mounted::Mount(Mount::Bind { readonly: false, .. })
        ));
        assert_eq!(host_directory("/a:/d"), Some("/a"));
        assert_eq!((host_directory("data:/d"), host_directory("/d")), (None, None));
        for (bind, says) in [
            ("a b:/d", "create a b: \"a b\" includes invalid characters"),
            ("x:/d", "create x: volume name is too short"),
            (":/d", "invalid volume specification: ':/d'"),
            ("data:d", "invalid volume specification: 'data:d'"),
            ("/a:/d:nocopy", "invalid mode: nocopy"),
            ("data:/d:odd", "invalid mode: odd"),
        ] {
            let refused = read(bind).unwrap_err();
            assert!(refused.message.starts_with(says), "{bind}: {}", refused.message);
        }
    }
}
