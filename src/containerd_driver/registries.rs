//! How this driver reaches registries: the host's choices for which the contract's configuration has no field.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::credentials::Named;
use crate::driver::{Error, ErrorKind};
use crate::image::{PullSettings, RegistrySettings};

/// The sources of images, and the credentials for them. The default has no credentials.
#[derive(Clone)]
pub struct Registries {
    /// The directory of containerd's `hosts.toml` files: mirrors, certificates, headers, per registry.
    pub hosts_dir: PathBuf,
    /// Registries, as in `r.corp:5000`, that are accessed without TLS. Registries on this machine always are.
    pub plain_http: Vec<String>,
    /// The text of a docker configuration (`{"auths": …}`) with the credentials to use. Replaces `docker_config`.
    pub docker_auth: Option<String>,
    /// The docker configuration file, with its credential helpers, to read when a registry requires credentials. It
    /// need not exist.
    pub docker_config: Option<PathBuf>,
    /// The longest wait for the next byte of a registry; a whole pull is limited only by its callers' deadlines.
    pub stall_timeout: Duration,
    /// How many layers of one image are fetched at once.
    pub parallel_layers: usize,
    /// How long the data of an interrupted pull is kept for the next pull to continue with. Zero keeps nothing.
    pub keep_partial: Duration,
}

impl Default for Registries {
    fn default() -> Self {
        let PullSettings {
            registries: RegistrySettings { hosts_dir, stall, .. },
            layers,
            keep,
            ..
        } = PullSettings::default();
        Self {
            hosts_dir,
            plain_http: Vec::new(),
            docker_auth: None,
            docker_config: None,
            stall_timeout: stall,
            parallel_layers: layers,
            keep_partial: keep,
        }
    }
}

impl Registries {
    /// The default, with credentials from the environment of this process, as in Fn: `FN_DOCKER_AUTH`, else the docker
    /// configuration in `DOCKER_CONFIG` or in the home directory. There are two differences to Fn. A malformed
    /// `FN_DOCKER_AUTH` fails the connect, where Fn logs it and then pulls without credentials. And the `~/.dockercfg`
    /// of Docker before 1.7 is not read.
    #[must_use]
    pub fn from_env() -> Self {
        let Named { text, file } = Named::from_env();
        Self {
            docker_auth: text,
            docker_config: file,
            ..Self::default()
        }
    }

    pub(super) fn pulls(self) -> Result<PullSettings, Error> {
        let defaults = PullSettings::default();
        let named = Named {
            text: self.docker_auth,
            file: self.docker_config,
        };
        let logins = named
            .logins()
            .map_err(|why| Error::new(ErrorKind::InvalidConfig, why))?;
        if self.parallel_layers == 0 || self.stall_timeout.is_zero() {
            let text = "fetching no layer at once, or waiting no time for a registry, cannot work";
            return Err(Error::new(ErrorKind::InvalidConfig, text));
        }
        Ok(PullSettings {
            registries: RegistrySettings {
                hosts_dir: self.hosts_dir,
                plain_http: self.plain_http,
                stall: self.stall_timeout,
                ..defaults.registries
            },
            logins,
            layers: self.parallel_layers,
            layers_in_all: defaults.layers_in_all.max(self.parallel_layers),
            keep: self.keep_partial,
            ..defaults
        })
    }
}

impl fmt::Debug for Registries {
    /// Hides the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registries")
            .field("hosts_dir", &self.hosts_dir)
            .field("plain_http", &self.plain_http)
            .field("docker_auth", &self.docker_auth.as_ref().map(|_| "***"))
            .field("docker_config", &self.docker_config)
            .field("stall_timeout", &self.stall_timeout)
            .field("parallel_layers", &self.parallel_layers)
            .field("keep_partial", &self.keep_partial)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_checked_at_the_start_and_never_shown() {
        let with = |json: &str| Registries {
            docker_auth: Some(json.into()),
            ..Registries::default()
        };
        let good = with(r#"{"auths": {"r.io": {"username": "u", "password": "hunter2"}}}"#);
        assert!(!format!("{good:?}").contains("hunter2"), "{good:?}");
        assert!(!format!("{:?}", good.pulls().unwrap()).contains("hunter2"));
        let refused = with("hunter2").pulls().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
        assert!(!refused.report().contains("hunter2"), "{}", refused.report());
    }
}
