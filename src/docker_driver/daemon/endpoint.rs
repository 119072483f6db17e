//! Where a Docker Engine listens, in the form of `DOCKER_HOST`. Pure.

use std::fmt;

use crate::driver::{Error, ErrorKind};

/// Docker's own default.
pub(in crate::docker_driver) const DEFAULT: &str = "unix:///var/run/docker.sock";
/// The port of Docker's API without TLS.
const PORT: u16 = 2375;

/// The address of a Docker Engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::docker_driver) enum Endpoint {
    /// The path of a Unix socket.
    Unix(String),
    /// The host and the port of an HTTP server without TLS.
    Tcp(String),
}

impl Endpoint {
    /// Reads `unix:///path`, `tcp://host[:port]`, `http://host[:port]` or the path of a socket.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::InvalidConfig`] for any other text.
    pub(in crate::docker_driver) fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |why: &str| {
            let text = format!("docker: {text:?} {why}");
            Err(Error::new(ErrorKind::InvalidConfig, text))
        };
        let (scheme, rest) = match text.split_once("://") {
            Some(parts) => parts,
            None if text.starts_with('/') => ("unix", text),
            None => {
                return refuse("is not an address, such as unix:///var/run/docker.sock or tcp://host:2375");
            }
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.to_owned())),
            "unix" => refuse("does not name a socket by an absolute path"),
            "tcp" | "http" => match authority(rest) {
                Some(authority) => Ok(Self::Tcp(authority)),
                None => refuse("does not name a host and a port, and nothing else"),
            },
            "https" => refuse("needs TLS, which this driver does not speak; give a Unix socket or tcp://"),
            _ => refuse("has a scheme that is not supported; there are unix, tcp and http"),
        }
    }
}

/// `host:port` of `host[:port][/]`.
fn authority(rest: &str) -> Option<String> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (rest, PORT),
    };
    let is_ipv6 = host.starts_with('[') && host.ends_with(']');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let fits = match is_ipv6 {
        true => host
            .trim_matches(['[', ']'])
            .parse::<std::net::Ipv6Addr>()
            .is_ok(),
        false => !host.is_empty() && host.chars().all(plain),
    };
    fits.then(|| format!("{host}:{port}"))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_docker_host_without_tls_is_read() {
        for (text, shown) in [
            (DEFAULT, DEFAULT),
            ("/run/x.sock", "unix:///run/x.sock"),
            ("tcp://10.0.0.1:2375", "tcp://10.0.0.1:2375"),
            ("tcp://docker", "tcp://docker:2375"),
            ("http://localhost:4243/", "tcp://localhost:4243"),
            ("tcp://[::1]:99", "tcp://[::1]:99"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.to_string(), shown, "{text}");
            assert_eq!(Endpoint::parse(shown).unwrap(), endpoint, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_or_needs_tls_is_refused_by_name() {
        for (text, why) in [
            ("docker.sock", "is not an address"),
            ("unix://relative", "absolute path"),
            ("tcp://", "host and a port"),
            ("tcp://a:b", "host and a port"),
            ("tcp://a:99999", "host and a port"),
            ("tcp://a/v1", "host and a port"),
            ("tcp://[zz]:1", "host and a port"),
            ("tcp://u@h:1", "host and a port"),
            ("https://a:2376", "TLS"),
            ("ssh://a", "scheme"),
            ("npipe:////./pipe/docker_engine", "scheme"),
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}");
            let said = error.report();
            assert!(said.contains(text) && said.contains(why), "{said}");
        }
    }
}
