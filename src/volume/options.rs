//! The options of Docker's driver `local` that a volume may have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What Docker's driver knows.
const KNOWN: [&str; 4] = ["type", "o", "device", "size"];

/// Why options cannot be those of a volume.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidOption {
    /// Docker has no such option.
    #[error("invalid option: {name:?}")]
    Unknown { name: String },
    /// An option needs another one.
    #[error("missing required option: {name:?}")]
    Missing { name: &'static str },
    /// Docker mounts something that is not a directory of this host.
    #[error(
        "the options {given} ask for a mount that fnctr does not make; there is type=none, o=bind and device=DIRECTORY, or no option"
    )]
    NotServed { given: String },
    /// The directory has no absolute path.
    #[error("device={device:?} must be the absolute path of a directory of this host")]
    NotAbsolute { device: String },
}

/// The options of a volume, as they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct VolumeOptions(BTreeMap<String, String>);

impl VolumeOptions {
    /// Checks options. Without one, the files are in the volume's own directory. With `type=none`, `o=bind` and `device`, they
    /// are in that directory.
    ///
    /// # Errors
    /// [`InvalidOption`], which says why.
    pub(crate) fn new(given: BTreeMap<String, String>) -> Result<Self, InvalidOption> {
        if let Some(name) = given.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            let name = name.clone();
            return Err(InvalidOption::Unknown { name });
        }
        if given.is_empty() {
            return Ok(Self::default());
        }
        let value = |name: &str| given.get(name).map(String::as_str).unwrap_or_default();
        if let Some(name) = ["device", "type"].into_iter().find(|name| value(name).is_empty()) {
            return Err(InvalidOption::Missing { name });
        }
        let mut options = value("o").split(',');
        let is_bind = value("type") == "none"
            && options.clone().any(|option| ["bind", "rbind"].contains(&option))
            && options.all(|option| ["bind", "rbind", "rw", ""].contains(&option))
            && !given.contains_key("size");
        if !is_bind {
            let given = given.iter().map(|(name, value)| format!("{name}={value}"));
            let given = given.collect::<Vec<_>>().join(" ");
            return Err(InvalidOption::NotServed { given });
        }
        match Path::new(value("device")).is_absolute() {
            true => Ok(Self(given)),
            false => Err(InvalidOption::NotAbsolute {
                device: value("device").to_owned(),
            }),
        }
    }

    /// The directory that has the files, if it is not the volume's own.
    pub(crate) fn device(&self) -> Option<PathBuf> {
        self.0.get("device").map(PathBuf::from)
    }

    /// The options, by name.
    pub(crate) fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_the_host_can_be_a_volume_and_other_mounts_cannot() {
        let check = |given: &[(&str, &str)]| {
            let given = given
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            VolumeOptions::new(given.collect())
        };
        assert_eq!(check(&[]).unwrap().device(), None);
        let bind = check(&[("type", "none"), ("o", "bind"), ("device", "/srv/d")]).unwrap();
        assert_eq!(bind.device(), Some("/srv/d".into()));
        for (given, says) in [
            (&[("foo", "x")][..], "invalid option: \"foo\""),
            (&[("type", "none")], "missing required option: \"device\""),
            (&[("device", "/d")], "missing required option: \"type\""),
            (
                &[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")],
                "device=tmpfs o=size=1m type=tmpfs ask",
            ),
            (&[("type", "none"), ("device", "/d")], "does not make"),
            (
                &[("type", "none"), ("o", "bind,ro"), ("device", "/d")],
                "does not make",
            ),
            (
                &[("type", "none"), ("o", "bind"), ("device", "d")],
                "device=\"d\" must be",
            ),
        ] {
            let error = check(given).unwrap_err().to_string();
            assert!(error.contains(says), "{given:?}: {error}");
        }
    }
}
