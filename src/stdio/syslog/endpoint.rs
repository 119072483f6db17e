//! The destination of a log: the URL of the logger configuration, checked before anything is created. Parsing neither
//! resolves nor connects.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

/// The port of syslog, over UDP and TCP.
const PORT: u16 = 514;

/// A syslog endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// One message is one datagram.
    Udp(Server),
    /// One message is one line.
    Tcp(Server),
    /// A stream socket of this host; one message is one line.
    Unix(PathBuf),
    /// A datagram socket of this host, as `/dev/log` is.
    Unixgram(PathBuf),
}

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// A URL that is not a usable log destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syslog URL {url:?} {fault}")]
pub(crate) struct BadEndpoint {
    url: String,
    fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("is not of the form scheme://address, where the scheme is one of udp, tcp, unix and unixgram")]
    NoUrl,
    #[error("has a scheme that is not one of udp, tcp, unix and unixgram")]
    Scheme,
    #[error("asks for TLS, which this version of fnctr does not support")]
    Tls,
    #[error("names no host")]
    NoHost,
    #[error("names a host that can be neither a name nor an address (an IPv6 address goes in brackets)")]
    Host,
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    #[error("must end after the host and the port")]
    Trailing,
    #[error("names no absolute path of a socket")]
    Path,
}

impl Endpoint {
    /// Parses a URL. The default port is 514.
    pub(crate) fn parse(url: &str) -> Result<Self, BadEndpoint> {
        read(url).map_err(|fault| BadEndpoint {
            url: url.to_owned(),
            fault,
        })
    }

    /// The end of a message: a newline where messages share a stream, nothing where each message is a datagram. Docker
    /// counts octets (RFC 6587, 3.4.1) over TLS only; over TCP its receivers expect newlines, so this crate sends them.
    pub(super) fn terminator(&self) -> &'static [u8] {
        match self {
            Self::Tcp(_) | Self::Unix(_) => b"\n",
            Self::Udp(_) | Self::Unixgram(_) => b"",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(server) => write!(f, "udp://{server}"),
            Self::Tcp(server) => write!(f, "tcp://{server}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Unixgram(path) => write!(f, "unixgram://{}", path.display()),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

fn read(url: &str) -> Result<Endpoint, Fault> {
    let (scheme, rest) = url.split_once("://").ok_or(Fault::NoUrl)?;
    match scheme.to_ascii_lowercase().as_str() {
        "udp" => server(rest).map(Endpoint::Udp),
        "tcp" => server(rest).map(Endpoint::Tcp),
        "unix" => path(rest).map(Endpoint::Unix),
        "unixgram" => path(rest).map(Endpoint::Unixgram),
        "tcp+tls" => Err(Fault::Tls),
        _ => Err(Fault::Scheme),
    }
}

fn path(text: &str) -> Result<PathBuf, Fault> {
    // "/" alone is a directory, and so is any path that ends with a slash.
    if !text.starts_with('/') || text.ends_with('/') || text.contains('\0') {
        return Err(Fault::Path);
    }
    Ok(text.into())
}

fn server(text: &str) -> Result<Server, Fault> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains(['/', '?', '#']) {
        return Err(Fault::Trailing);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']').ok_or(Fault::Host)?;
            address.parse::<Ipv6Addr>().map_err(|_| Fault::Host)?;
            (address, port)
        }
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            if !host.chars().all(of_a_name) || port.matches(':').count() > 1 {
                return Err(Fault::Host);
            }
            (host, port)
        }
    };
    if host.is_empty() {
        return Err(Fault::NoHost);
    }
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            digits.parse().unwrap_or_default()
        }
        Some(_) => 0,
        None if port.is_empty() => PORT,
        None => return Err(Fault::Host),
    };
    if port == 0 {
        return Err(Fault::Port);
    }
    Ok(Server {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_takes_is_taken_and_the_port_is_514() {
        for (url, shown) in [
            ("udp://logs", "udp://logs:514"),
            ("TCP://logs.example.com:6514", "tcp://logs.example.com:6514"),
            ("tcp://10.0.0.1/", "tcp://10.0.0.1:514"),
            ("tcp://[::1]", "tcp://[::1]:514"),
            ("udp://[fe80::1]:1514", "udp://[fe80::1]:1514"),
            ("unix:///run/log.sock", "unix:///run/log.sock"),
            ("unixgram:///dev/log", "unixgram:///dev/log"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_name_and_the_reason() {
        for (url, reason) in [
            ("logs:514", "form"),
            ("http://logs", "scheme"),
            ("tcp+tls://logs:6514", "TLS"),
            ("tcp://", "no host"),
            ("tcp://:514", "no host"),
            ("udp://user@logs", "neither a name nor"),
            ("udp://::1:514", "brackets"),
            ("udp://[logs]", "brackets"),
            ("udp://[::1]514", "brackets"),
            ("tcp://logs:", "port"),
            ("tcp://logs:0", "port"),
            ("tcp://logs:+5", "port"),
            ("tcp://logs:65536", "port"),
            ("tcp://logs:514/path", "must end"),
            ("tcp://logs?x", "must end"),
            ("unix://relative", "absolute"),
            ("unixgram:///", "absolute"),
        ] {
            let sentence = Endpoint::parse(url).unwrap_err().to_string();
            assert!(
                sentence.contains(url) && sentence.contains(reason),
                "{url}: {sentence}"
            );
        }
    }
}
