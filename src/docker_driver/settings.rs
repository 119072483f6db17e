//! Settings for which the contract's configuration has no field.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::daemon::{DEFAULT, Endpoint};
use crate::credentials::{Logins, Named};
use crate::driver::{Config, Error, ErrorKind, notation};

/// The environment variable with the address of the engine.
const HOST: &str = "DOCKER_HOST";

/// How the driver reaches its engine, and with which credentials images are pulled. The default has no credentials, and
/// reads nothing of the environment.
#[derive(Clone)]
pub struct DockerSettings {
    /// The engine's address in the form of `DOCKER_HOST`, if the configuration's `docker` is empty. `None` is
    /// `unix:///var/run/docker.sock`.
    pub host: Option<String>,
    /// The text of a docker configuration (`{"auths": …}`) with the credentials to use. Replaces `docker_config`.
    pub docker_auth: Option<String>,
    /// The docker configuration file, with its credential helpers, to read before each pull. It need not exist.
    pub docker_config: Option<PathBuf>,
    /// How long a close may take, and how long the host's own clean-up ([`ContainerTask::close`]) may take after it.
    /// Not 0.
    ///
    /// [`ContainerTask::close`]: crate::driver::ContainerTask::close
    pub close_grace: Duration,
}

impl Default for DockerSettings {
    fn default() -> Self {
        Self {
            host: None,
            docker_auth: None,
            docker_config: None,
            close_grace: Duration::from_secs(30),
        }
    }
}

impl DockerSettings {
    /// The default, with the address in `DOCKER_HOST`, and with the credentials in `FN_DOCKER_AUTH`, else in the docker
    /// configuration in `DOCKER_CONFIG` or in the home directory, as in Fn. A malformed `FN_DOCKER_AUTH` fails the
    /// connect, where Fn logs it and then pulls without credentials.
    #[must_use]
    pub fn from_env() -> Self {
        let Named { text, file } = Named::from_env();
        Self {
            host: std::env::var(HOST).ok().filter(|host| !host.trim().is_empty()),
            docker_auth: text,
            docker_config: file,
            ..Self::default()
        }
    }

    /// Everything that must be right before the engine is asked for anything.
    pub(super) fn checked(self, config: &Config) -> Result<Checked, Error> {
        if self.close_grace.is_zero() {
            let text = "close_grace is 0: a close without time removes nothing";
            return Err(Error::new(ErrorKind::InvalidConfig, text));
        }
        notation::networks(&config.docker_networks)?;
        let address = match config.docker.trim() {
            "" => self.host.as_deref().map_or(DEFAULT, str::trim),
            address => address,
        };
        let named = Named {
            text: self.docker_auth,
            file: self.docker_config,
        };
        Ok(Checked {
            endpoint: Endpoint::parse(address)?,
            logins: named
                .logins()
                .map_err(|why| Error::new(ErrorKind::InvalidConfig, why))?,
            grace: self.close_grace,
        })
    }
}

/// Settings that were checked.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) endpoint: Endpoint,
    pub(super) logins: Logins,
    pub(super) grace: Duration,
}

impl fmt::Debug for DockerSettings {
    /// Hides the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerSettings")
            .field("host", &self.host)
            .field("docker_auth", &self.docker_auth.as_ref().map(|_| "***"))
            .field("docker_config", &self.docker_config)
            .field("close_grace", &self.close_grace)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(docker: &str, host: Option<&str>) -> String {
        let settings = DockerSettings {
            host: host.map(str::to_owned),
            ..DockerSettings::default()
        };
        let config = Config {
            docker: docker.to_owned(),
            ..Config::default()
        };
        settings.checked(&config).unwrap().endpoint.to_string()
    }

    #[test]
    fn the_configuration_s_address_wins_over_the_environment_s_and_the_default_is_docker_s() {
        assert_eq!(endpoint("tcp://a:1", Some("tcp://b:2")), "tcp://a:1");
        assert_eq!(endpoint("", Some("tcp://b:2")), "tcp://b:2");
        assert_eq!(endpoint(" ", None), "unix:///var/run/docker.sock");
    }

    #[test]
    fn a_login_is_never_shown_and_a_malformed_one_is_refused() {
        let settings = DockerSettings {
            docker_auth: Some(r#"{"auths": "hunter2"}"#.to_owned()),
            ..DockerSettings::default()
        };
        assert!(!format!("{settings:?}").contains("hunter2"));
        let error = settings.checked(&Config::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
