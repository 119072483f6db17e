//! The credentials for a registry, from a docker configuration: its file and its helper programs.
//!
//! ```text
//! a registry's host ─► rules: which entries, best first ─► a helper program, else the entry itself ─► a Credential
//! ```
//!
//! The driver for containerd looks them up after a registry has refused an anonymous request; the one for Docker, whose
//! engine talks to the registry, before each pull. They are never shown, neither by `Debug`, nor in an error or a log.

mod docker_config;
mod helper;
mod rules;

use std::fmt;
use std::io;
use std::path::PathBuf;

use self::docker_config::DockerConfig;
use crate::Context;

/// The environment variable with a docker configuration as its text, as in Fn.
const AUTH: &str = "FN_DOCKER_AUTH";
/// A docker configuration is small.
const MAX_FILE: u64 = 4 << 20;

/// The credentials that a registry accepts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Credential {
    /// A user name and its password.
    Basic {
        /// The user name.
        username: String,
        /// The password, or an access token in its place.
        password: String,
    },
    /// A refresh token, exchanged for a token that grants access.
    IdentityToken(String),
    /// A token that the registry accepts as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username}, ***)"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(***)"),
            Self::RegistryToken(_) => f.write_str("RegistryToken(***)"),
        }
    }
}

/// The source of credentials. The default has none.
#[derive(Clone, Default)]
pub(crate) enum Logins {
    /// All requests are anonymous.
    #[default]
    None,
    /// A docker configuration as text that was checked.
    Text(String),
    /// A docker configuration file, read at each use because `docker login` changes it. A missing file counts as empty.
    File(PathBuf),
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Text(_) => f.write_str("Text(***)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named")
            .field("text", &self.text.as_ref().map(|_| "***"))
            .field("file", &self.file)
            .finish()
    }
}

/// Why credentials are not available. No variant contains any.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is read as credentials::Error")]
pub(crate) enum Error {
    /// The text or the file is not a docker configuration.
    #[error("{from} is not a docker configuration: {why}")]
    Malformed {
        /// The text or file that was read.
        from: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error that the kernel returned.
        #[source]
        source: io::Error,
    },
    /// The name of a helper contains other characters than a name may have.
    #[error(
        "{name:?} cannot be a credential helper: a name has letters, digits, '-', '_' and '.' alone, and does not begin with '.'"
    )]
    HelperName {
        /// The name as configured.
        name: String,
    },
    /// A helper could not be run, or failed.
    #[error("credential helper {program} {why}")]
    Helper {
        /// The program.
        program: String,
        /// What happened to it; reads after the program's name.
        why: String,
    },
}

impl Error {
    /// Whether a helper program failed, which need not mean that credentials are needed.
    pub(crate) fn is_of_a_helper(&self) -> bool {
        matches!(self, Self::Helper { .. } | Self::HelperName { .. })
    }
}

/// A docker configuration, as the environment of this process names it.
#[derive(Clone, Default)]
pub(crate) struct Named {
    /// The text in `FN_DOCKER_AUTH`.
    pub(crate) text: Option<String>,
    /// The docker configuration in `DOCKER_CONFIG` or in the home directory. It need not exist.
    pub(crate) file: Option<PathBuf>,
}

impl Named {
    /// Reads the environment.
    pub(crate) fn from_env() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let directory = set("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".docker")));
        Self {
            text: std::env::var(AUTH).ok().filter(|json| !json.trim().is_empty()),
            file: directory.map(|directory| directory.join("config.json")),
        }
    }

    /// The credentials in it. The text replaces the file.
    ///
    /// # Errors
    /// [`Error::Malformed`] for the text.
    pub(crate) fn logins(self) -> Result<Logins, Error> {
        match (self.text, self.file) {
            (Some(json), _) => Logins::text(json),
            (None, Some(file)) => Ok(Logins::File(file)),
            (None, None) => Ok(Logins::None),
        }
    }
}

impl Logins {
    /// Credentials from the text of a docker configuration, which is checked.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub(crate) fn text(json: String) -> Result<Self, Error> {
        DockerConfig::parse("the given login configuration", &json)?;
        Ok(Self::Text(json))
    }

    /// The credentials for a host, as in `r.io:5000`; `None` if there are none.
    ///
    /// # Errors
    /// The error names the file or the helper.
    ///
    /// # Cancellation
    /// Safe to drop: a helper that runs is killed.
    pub(crate) async fn find(&self, ctx: &Context, host: &str) -> Result<Option<Credential>, Error> {
        let config = match self {
            Self::None => return Ok(None),
            Self::Text(json) => DockerConfig::parse("the given login configuration", json)?,
            Self::File(path) => match read(path.clone()).await? {
                None => return Ok(None),
                Some(json) => DockerConfig::parse(&path.display().to_string(), &json)?,
            },
        };
        for key in rules::ranked(host, config.keys()) {
            let program = config.helper(key).or_else(|| config.store());
            let found = match program {
                Some(name) => helper::get(ctx, name, config.as_written(key)).await?,
                None => None,
            };
            if let Some(found) = found.or_else(|| config.entry(key)) {
                return Ok(Some(found));
            }
        }
        // A store may have credentials for a host without an entry in the file.
        match config.store() {
            Some(name) => helper::get(ctx, name, rules::store_key(host)).await,
            None => Ok(None),
        }
    }
}

async fn read(path: PathBuf) -> Result<Option<String>, Error> {
    use tokio::io::AsyncReadExt as _;
    let reading = async {
        let mut text = String::new();
        let file = tokio::fs::File::open(&path).await?;
        file.take(MAX_FILE).read_to_string(&mut text).await?;
        Ok(text)
    };
    match reading.await {
        Ok(text) => Ok(Some(text)),
        Err(why) if io::Error::kind(&why) == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Unreadable { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(json: &str, host: &str) -> Option<Credential> {
        let logins = Logins::text(json.to_owned()).unwrap();
        logins.find(&Context::new(), host).await.unwrap()
    }

    fn user(name: &str) -> Option<Credential> {
        Some(Credential::Basic {
            username: name.into(),
            password: "secret".into(),
        })
    }

    #[tokio::test]
    async fn each_registry_gets_its_own() {
        let json = r#"{"auths": {
            "https://index.docker.io/v1/": {"username": "hub", "password": "secret"},
            "r.io:5000": {"username": "ported", "password": "secret"},
            "https://team.corp.io/v2/": {"username": "team", "password": "secret"},
            "corp.io": {"username": "corp", "password": "secret"}
        }}"#;
        assert_eq!(found(json, "docker.io").await, user("hub"));
        assert_eq!(found(json, "registry-1.docker.io").await, user("hub"));
        assert_eq!(found(json, "r.io:5000").await, user("ported"));
        assert_eq!(found(json, "r.io").await, None);
        assert_eq!(found(json, "team.corp.io").await, user("team"));
        assert_eq!(found(json, "corp.io").await, user("corp"));
        assert_eq!(found(json, "a.team.corp.io").await, user("team"));
        assert_eq!(found(json, "other.corp.io").await, user("corp"));
        assert_eq!(found(json, "evilcorp.io").await, None);
    }

    #[test]
    fn nothing_shows_a_secret() {
        let secret = r#"{"auths": {"r.io": {"username": "u", "password": "hunter2"}}}"#;
        let shown = format!("{:?}", Logins::text(secret.to_owned()).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        let refused = Logins::text(r#"{"auths": {"r.io": {"auth": "hunter2"}}}"#.to_owned()).unwrap_err();
        assert!(
            !format!("{refused} {refused:?}").contains("hunter2"),
            "{refused:?}"
        );
        let refused = Logins::text(r#"{"auths": "hunter2"}"#.to_owned()).unwrap_err();
        assert!(
            !format!("{refused} {refused:?}").contains("hunter2"),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_no_error_and_one_that_is_broken_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let logins = Logins::File(path.clone());
        assert_eq!(logins.find(&Context::new(), "r.io").await.unwrap(), None);
        std::fs::write(&path, "{").unwrap();
        let refused = logins.find(&Context::new(), "r.io").await.unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("config.json is not a docker configuration")
        );
    }
}
