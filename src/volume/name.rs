//! Names of volumes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes: it is the name of a directory.
const LONGEST: usize = 255 - ".new-".len();

/// The name of a volume: letters, digits, `_`, `.` and `-`, of which the first is a letter or a digit, and at least two
/// characters, as with Docker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct VolumeName(String);

/// Why a text is not the name of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidVolumeName {
    #[error("volume name is too short, names should be at least two alphanumeric characters")]
    Short,
    #[error("volume name is too long: there are at most {} characters", LONGEST)]
    Long,
    #[error(
        "includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended \
         to pass a host directory, use absolute path"
    )]
    Characters,
}

impl VolumeName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidVolumeName`], which says why.
    pub(crate) fn new(text: &str) -> Result<Self, InvalidVolumeName> {
        let mut bytes = text.bytes();
        let is_first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let is_rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        match (is_first && is_rest, text.len()) {
            (_, 0 | 1) => Err(InvalidVolumeName::Short),
            (false, _) => Err(InvalidVolumeName::Characters),
            (true, length) if length > LONGEST => Err(InvalidVolumeName::Long),
            (true, _) => Ok(Self(text.to_owned())),
        }
    }

    /// A made-up one, for a volume that nobody has named: 64 digits.
    pub(crate) fn random() -> Self {
        Self(crate::ContainerId::random().to_string())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = InvalidVolumeName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_docker_takes() {
        for good in ["ab", "a.b_c-d", "0x", &"a".repeat(250)] {
            assert!(VolumeName::new(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", InvalidVolumeName::Short),
            ("a", InvalidVolumeName::Short),
            ("../x", InvalidVolumeName::Characters),
            (".new-a", InvalidVolumeName::Characters),
            ("a/b", InvalidVolumeName::Characters),
            (&"a".repeat(251), InvalidVolumeName::Long),
        ] {
            assert_eq!(VolumeName::new(bad), Err(why), "{bad}");
        }
        assert_eq!(VolumeName::random().as_str().len(), 64);
        assert!(VolumeName::new(VolumeName::random().as_str()).is_ok());
    }
}
