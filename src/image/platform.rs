//! The platform of an image, in the notation of images: `linux/amd64`, `linux/arm/v7`. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An operating system, an architecture, and possibly a variant of the architecture.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Platform {
    /// As in `linux`.
    pub(crate) os: String,
    /// As in `arm`.
    pub(crate) architecture: String,
    /// As in `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// A text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: write it as linux/amd64 or linux/arm/v7")]
pub(crate) struct InvalidPlatform(String);

impl Platform {
    /// The platform of this machine.
    pub(crate) fn host() -> Self {
        // The machine supports at least the variant for which the program was built.
        let variant = if cfg!(all(target_arch = "arm", not(target_feature = "v7"))) {
            Some("v6")
        } else {
            None
        };
        Self::new("linux", std::env::consts::ARCH, variant)
    }

    /// Parses `os/architecture` and `os/architecture/variant`.
    ///
    /// # Errors
    /// The error contains the text.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidPlatform> {
        let parts: Vec<_> = text.split('/').collect();
        let plain = |part: &&str| {
            part.starts_with(|first: char| first.is_ascii_alphanumeric())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !parts.iter().all(plain) {
            return Err(InvalidPlatform(text.to_owned()));
        }
        match parts.as_slice() {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(InvalidPlatform(text.to_owned())),
        }
    }

    /// Normalises a platform (containerd's platforms.Normalize): the names used by kernels and compilers are replaced
    /// by those of images, and a default variant is added or removed as is usual for the architecture.
    fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant
            .filter(|variant| !variant.is_empty())
            .map(str::to_ascii_lowercase);
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64", variant) => ("arm64", variant),
            ("x86" | "i386" | "i686", _) => ("386", None),
            ("powerpc64" | "powerpc64le", variant) => ("ppc64le", variant),
            ("armhf", None) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", None) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            (architecture, variant) => (architecture, variant),
        };
        Self {
            os: os.to_ascii_lowercase(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    fn normalized(&self) -> Self {
        Self::new(&self.os, &self.architecture, self.variant.as_deref())
    }

    /// Whether the platform exists: indexes list attestations under an unknown platform.
    pub(super) fn is_known(&self) -> bool {
        self.os != "unknown" && self.architecture != "unknown"
    }

    /// How well an image for `made` runs on this platform: 0 is best, `None` means not at all. A machine runs images
    /// for lesser variants of its architecture (ARM v7 runs v6, but v6 does not run v7).
    pub(super) fn rank(&self, made: &Self) -> Option<u32> {
        let (mine, made) = (self.normalized(), made.normalized());
        if (&mine.os, &mine.architecture) != (&made.os, &made.architecture) {
            return None;
        }
        mine.level().checked_sub(made.level())
    }

    fn level(&self) -> u32 {
        let least = match self.architecture.as_str() {
            "arm64" => 8,
            _ => 1,
        };
        let variant = self.variant.as_deref().and_then(|text| text.strip_prefix('v'));
        // `v8.2` of arm64 is between v8 and v9.
        let mut numbers = variant.unwrap_or_default().split('.').map(str::parse);
        let mut next = || numbers.next().and_then(Result::ok);
        next().unwrap_or(least) * 100 + next().unwrap_or(0)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(on: &str, made: &str) -> Option<u32> {
        let raw = |text: &str| {
            let mut parts = text.split('/').map(str::to_owned);
            Platform {
                os: parts.next().unwrap(),
                architecture: parts.next().unwrap(),
                variant: parts.next(),
            }
        };
        Platform::parse(on).unwrap().rank(&raw(made))
    }

    #[test]
    fn a_machine_runs_its_own_variant_best_and_lesser_ones_too() {
        assert_eq!(rank("linux/arm/v7", "linux/arm/v7"), Some(0));
        assert!(rank("linux/arm/v7", "linux/arm/v6") < rank("linux/arm/v7", "linux/arm/v5"));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(rank("linux/arm", "linux/arm/v7"), Some(0));
        assert_eq!(rank("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(rank("linux/arm64/v8", "linux/arm64"), Some(0));
        assert_eq!(rank("linux/arm64", "linux/arm64/v9"), None);
        assert_eq!(rank("linux/amd64", "linux/amd64/v3"), None);
        assert!(rank("linux/amd64/v3", "linux/amd64").is_some());
        assert_eq!(rank("linux/amd64", "linux/386"), None);
        assert_eq!(rank("linux/amd64", "windows/amd64"), None);
        assert_eq!(rank("linux/x86_64", "linux/amd64"), Some(0));
    }

    #[test]
    fn what_is_no_platform_is_refused_by_name() {
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "linux/a md64",
            "linux/../x",
        ] {
            let refused = Platform::parse(text).unwrap_err().to_string();
            assert!(
                refused.starts_with(&format!("{text:?} is not a platform")),
                "{refused}"
            );
        }
        assert_eq!(
            Platform::parse("Linux/ARM64/v8").unwrap().to_string(),
            "linux/arm64"
        );
        assert_eq!(Platform::parse("linux/arm").unwrap().to_string(), "linux/arm/v7");
    }

    #[test]
    fn this_machine_is_one() {
        let host = Platform::host();
        assert_eq!(host.rank(&host), Some(0));
        assert_eq!(Platform::parse(&host.to_string()).unwrap(), host);
    }
}
