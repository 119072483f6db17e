//! Connecting: which version of its API the engine is spoken to in.

use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};

use super::failed::{Cause, Failed};
use super::{ANSWER, Daemon, Endpoint, WHENEVER};
use crate::Context;

/// The versions in which an engine is asked for its own: an engine refuses a request in a version that is newer than
/// its newest or older than its oldest. 1.40 is old enough for every engine since 19.03, and 1.44 new enough for those
/// that have dropped it. The client 0.21 leaves the version out of its paths, as Fn's does, and an engine then answers
/// in its newest; one that puts it there is served as well.
const ASKED_IN: [ClientVersion; 2] = [version(1, 40), version(1, 44)];

const fn version(major_version: usize, minor_version: usize) -> ClientVersion {
    ClientVersion {
        major_version,
        minor_version,
    }
}

impl Daemon {
    /// Connects, and returns the engine's own version, as in `28.5.2`.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(in crate::docker_driver) async fn connect(
        ctx: &Context,
        endpoint: &Endpoint,
    ) -> Result<(Self, String), Failed> {
        let shown = endpoint.to_string();
        let failed = |cause| Failed::new("connect to the Docker Engine at", &shown, cause);
        let mut refused = None;
        for asked_in in ASKED_IN {
            let docker =
                client(endpoint, &asked_in, ANSWER).map_err(|error| failed(super::failed::cause(error)))?;
            let answered = ctx
                .run(docker.version())
                .await
                .map_err(|why| failed(why.into()))?;
            let found = match answered.map_err(super::failed::cause) {
                Ok(found) => found,
                Err(why) if why.status() == Some(400) => {
                    refused = Some(why);
                    continue;
                }
                Err(why) => return Err(failed(why)),
            };
            let newest = found.api_version.as_deref().and_then(read).unwrap_or(asked_in);
            let spoken = match newest < *API_DEFAULT_VERSION {
                true => newest,
                false => *API_DEFAULT_VERSION,
            };
            let open =
                |limit| client(endpoint, &spoken, limit).map_err(|error| failed(super::failed::cause(error)));
            let daemon = Self {
                calls: open(ANSWER)?,
                waits: open(WHENEVER)?,
            };
            return Ok((daemon, found.version.unwrap_or_default()));
        }
        Err(failed(refused.unwrap_or_else(|| {
            Cause::Broken("it speaks no version of the API that this driver knows".to_owned())
        })))
    }
}

fn client(
    endpoint: &Endpoint,
    version: &ClientVersion,
    limit: Duration,
) -> Result<Docker, bollard::errors::Error> {
    let seconds = limit.as_secs();
    match endpoint {
        Endpoint::Unix(path) => Docker::connect_with_unix(path, seconds, version),
        Endpoint::Tcp(authority) => {
            Docker::connect_with_http(&format!("tcp://{authority}"), seconds, version)
        }
    }
}

/// Reads `1.51`.
fn read(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(version(major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_the_api_is_two_numbers() {
        assert_eq!(read("1.51"), Some(version(1, 51)));
        for bad in ["", "1", "1.x", "v1.2", "1.2.3"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(version(1, 9) < version(1, 40));
    }
}
