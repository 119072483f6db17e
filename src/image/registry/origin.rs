//! The origin of a request, and the targets of redirects. Pure.
//!
//! Credentials belong to an origin: scheme, host and port. They are not sent along with a redirect to another origin.

use std::net::IpAddr;

use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};

/// Scheme, host and port, to which credentials belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    tls: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an absolute URL; `None` if it is neither http nor https, or if its port is invalid.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host()?.to_ascii_lowercase();
        let port = port_of(uri.authority()?)?.unwrap_or(if tls { 443 } else { 80 });
        Some(Self { tls, host, port })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether it is this machine, independently of the network.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The origin as it is shown to users; the default port is left out.
    pub(super) fn shown(&self) -> String {
        let default = if self.tls { 443 } else { 80 };
        if self.port == default {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The port in an authority; `Some(None)` if there is none, `None` if it is invalid. The library treats an invalid port
/// as absent, and would connect to the default port.
fn port_of(authority: &Authority) -> Option<Option<u16>> {
    let (_, after) = authority.as_str().rsplit_once(authority.host())?;
    let Some(port) = after.strip_prefix(':') else {
        return Some(None);
    };
    port.parse().ok().filter(|port| *port != 0).map(Some)
}

/// Whether a host, with or without a port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = without_port(host);
    let bare = bare.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The host without its port.
pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !bare.ends_with(':') => {
            // `::1` has colons, but no port.
            if bare.contains(':') && !bare.starts_with('[') {
                host
            } else {
                bare
            }
        }
        _ => host,
    }
}

/// The URL of a `Location` header, relative to `base` (RFC 3986, 5.2; dot segments are left to the server).
pub(super) fn resolve(base: &Uri, location: &str) -> Result<Uri, String> {
    // Only browsers use a fragment.
    let location = location.split('#').next().unwrap_or_default();
    let not_one = |_| format!("{:?} is not a URL", shortened(location));
    let absolute = location
        .split_once("://")
        .is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric()));
    if absolute {
        return location.parse().map_err(not_one);
    }
    let (Some(scheme), Some(authority)) = (base.scheme_str(), base.authority()) else {
        return Err("it is relative to a URL without a host".to_owned());
    };
    if location.starts_with("//") {
        return format!("{scheme}:{location}").parse().map_err(not_one);
    }
    let path = if location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with('?') || location.is_empty() {
        format!("{}{location}", base.path())
    } else {
        let directory = base
            .path()
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory);
        format!("{directory}/{location}")
    };
    format!("{scheme}://{authority}{path}").parse().map_err(not_one)
}

/// `scheme://authority` and a path, checked.
pub(super) fn uri(tls: bool, authority: &str, path: &str) -> Result<Uri, String> {
    let authority: Authority = authority
        .parse()
        .map_err(|_| format!("{authority:?} is not a host"))?;
    if authority.as_str().contains('@') {
        return Err("a user name in a URL is not supported".to_owned());
    }
    if port_of(&authority).is_none() {
        return Err(format!("the port of {authority} is not between 1 and 65535"));
    }
    let path: PathAndQuery = path.parse().map_err(|_| format!("{path:?} is not a path"))?;
    Uri::builder()
        .scheme(if tls { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|why| why.to_string())
}

fn shortened(location: &str) -> String {
    let path = location.split('?').next().unwrap_or_default();
    path.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_cannot_be_is_not_taken_for_the_usual_one() {
        for authority in ["r.io:99999", "r.io:0", "r.io:65536", "[::1]:70000"] {
            let refused = uri(true, authority, "/v2").unwrap_err();
            assert!(refused.contains("not between 1 and 65535"), "{refused}");
            let url: Uri = format!("https://{authority}/a").parse().unwrap();
            assert_eq!(Origin::of(&url), None, "{authority}");
        }
        for (authority, port) in [
            ("r.io:65535", 65535),
            ("[::1]:1", 1),
            ("[::1]", 443),
            ("r.io", 443),
        ] {
            let url = uri(true, authority, "/v2").unwrap();
            assert_eq!(Origin::of(&url).unwrap().port, port, "{authority}");
        }
    }

    #[test]
    fn a_location_is_resolved_as_browsers_do() {
        let base: Uri = "https://r.io:5000/v2/a/blobs/sha256:1?ns=x".parse().unwrap();
        for (location, expected) in [
            ("https://cdn.io/x?sig=1#frag", "https://cdn.io/x?sig=1"),
            ("http://cdn.io", "http://cdn.io/"),
            ("//cdn.io/x", "https://cdn.io/x"),
            ("/other?y=1", "https://r.io:5000/other?y=1"),
            ("sha256:2", "https://r.io:5000/v2/a/blobs/sha256:2"),
            ("?y=1", "https://r.io:5000/v2/a/blobs/sha256:1?y=1"),
        ] {
            assert_eq!(
                resolve(&base, location).unwrap().to_string(),
                expected,
                "{location}"
            );
        }
        let refused = resolve(&base, "https://c d/x?secret").unwrap_err();
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let of = |text: &str| Origin::of(&text.parse().unwrap()).unwrap();
        assert_eq!(of("https://R.io/x"), of("https://r.io:443/y"));
        assert_ne!(of("https://r.io/"), of("http://r.io/"));
        assert_ne!(of("https://r.io/"), of("https://r.io:5000/"));
        assert_ne!(of("https://r.io/"), of("https://evil.r.io/"));
        assert_eq!(Origin::of(&"ftp://r.io/".parse().unwrap()), None);
        assert_eq!(of("https://r.io:443/").shown(), "r.io");
        assert_eq!(of("http://r.io:443/").shown(), "r.io:443");
    }

    #[test]
    fn loopback_is_this_machine_alone() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]:5000",
            "[::1]",
            "::1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.evil.io",
            "127.0.0.1.nip.io",
            "10.0.0.1:5000",
            "r.io",
            "[::2]:1",
            "",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
