//! The versions of the API that are served, and the prefix of a path that asks for one.

use std::fmt;

/// A version of Docker's Engine API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion {
    major: u32,
    minor: u32,
}

/// The newest version, which a path without a version gets. It is that of Docker 28.5: the next one takes fields away
/// that clients read.
pub(super) const NEWEST: ApiVersion = ApiVersion::new(1, 51);
/// The oldest version.
pub(super) const OLDEST: ApiVersion = ApiVersion::new(1, 24);

/// Why a version is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotServed {
    /// It is older than [`OLDEST`].
    TooOld(String),
    /// It is newer than [`NEWEST`].
    TooNew(String),
}

impl ApiVersion {
    pub(super) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Splits a path into the version that its prefix asks for and the rest. A path without such a prefix is returned
    /// as it is, with the newest version.
    pub(super) fn of_path(path: &str) -> Result<(Self, &str), NotServed> {
        let of_version = |c: char| c.is_ascii_digit() || c == '.';
        let prefixed = path.strip_prefix("/v").and_then(|rest| {
            let (version, _) = rest.split_once('/')?;
            let is_version = !version.is_empty() && version.chars().all(of_version);
            is_version.then(|| (version, rest.get(version.len()..).unwrap_or_default()))
        });
        let Some((text, rest)) = prefixed else {
            return Ok((NEWEST, path));
        };
        let version = Self::parse(text);
        match version {
            Some(version) if version > NEWEST => Err(NotServed::TooNew(text.to_owned())),
            Some(version) if version >= OLDEST => Ok((version, rest)),
            _ => Err(NotServed::TooOld(text.to_owned())),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        // Of a third number nothing depends.
        let minor = minor.split('.').next().unwrap_or_default();
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for NotServed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooOld(asked) => write!(
                f,
                "client version {asked} is too old. Minimum supported API version is {OLDEST}, please upgrade your client to a newer version"
            ),
            Self::TooNew(asked) => write!(
                f,
                "client version {asked} is too new. Maximum supported API version is {NEWEST}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_asks_for_a_version_and_a_path_without_one_gets_the_newest() {
        let of =
            |path| ApiVersion::of_path(path).map(|(version, rest)| (version.to_string(), rest.to_owned()));
        let served = |version: &str, rest: &str| Ok((version.to_owned(), rest.to_owned()));
        assert_eq!(of("/containers/json"), served("1.51", "/containers/json"));
        assert_eq!(of("/v1.41/info"), served("1.41", "/info"));
        assert_eq!(of("/v1.24/_ping"), served("1.24", "/_ping"));
        assert_eq!(of("/volumes"), served("1.51", "/volumes"));
        assert_eq!(of("/v"), served("1.51", "/v"));
        assert_eq!(of("/v1/info"), Err(NotServed::TooOld("1".to_owned())));
        assert_eq!(of("/v1.23/info"), Err(NotServed::TooOld("1.23".to_owned())));
        assert_eq!(of("/v1.99/info"), Err(NotServed::TooNew("1.99".to_owned())));
        assert_eq!(of("/v2.0/info"), Err(NotServed::TooNew("2.0".to_owned())));
    }
}
