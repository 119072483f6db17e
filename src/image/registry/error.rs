//! The errors of requests to a registry. Each message names the registry and the request. It never contains a
//! credential or the query of a URL, because the query of a redirect often is a credential.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::Interrupted;

/// Why a request to a registry failed.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is read as registry::Error")]
pub(crate) enum Error {
    /// The registry refused the request.
    #[error("registry {host} answered {status} for {what}{}", said(message))]
    Refused {
        /// The registry, or the host to which it redirected.
        host: String,
        /// What was requested.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's explanation; empty if there is none.
        message: String,
        /// When a new attempt makes sense, if the registry has specified it.
        after: Option<Duration>,
        /// Whether the answer came from another host than the requested one.
        redirected: bool,
    },
    /// The registry requires a login, and the given credentials, or their absence, were not sufficient.
    #[error("registry {host} {} for {what}{}", refusal(*status, *anonymous), said(message))]
    Denied {
        /// The registry.
        host: String,
        /// What was requested.
        what: String,
        /// 401 or 403.
        status: u16,
        /// The registry's explanation.
        message: String,
        /// Whether there were no credentials to send.
        anonymous: bool,
    },
    /// The registry limits the rate of requests.
    #[error("registry {host} limits how often it is asked for {what}: try again {}{}", later(*after), said(message))]
    RateLimited {
        /// The registry.
        host: String,
        /// What was requested.
        what: String,
        /// When a new attempt makes sense, if the registry has specified it.
        after: Option<Duration>,
        /// The registry's explanation; empty if there is none.
        message: String,
    },
    /// No connection could be made.
    #[error("registry {host} cannot be reached")]
    Unreachable {
        /// The registry.
        host: String,
        /// The network error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke.
    #[error("the connection to registry {host} broke during {what}")]
    Broken {
        /// The registry.
        host: String,
        /// What was requested.
        what: String,
        /// The network error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No byte arrived for a while.
    #[error("registry {host} sent nothing for {limit:?} during {what}")]
    Stalled {
        /// The registry.
        host: String,
        /// What was requested.
        what: String,
        /// How long no byte arrived.
        limit: Duration,
    },
    /// The answer was larger than allowed.
    #[error("{what} of registry {host} is larger than the {max} bytes that are allowed")]
    TooLarge {
        /// The registry.
        host: String,
        /// What was requested.
        what: String,
        /// The limit.
        max: u64,
    },
    /// The content does not match its digest.
    #[error("registry {host} sent {what} with the digest {found}")]
    WrongDigest {
        /// The registry.
        host: String,
        /// What was requested.
        what: String,
        /// The digest of the content.
        found: String,
    },
    /// The answer is invalid.
    #[error("registry {host} gave an invalid answer for {what}: {why}")]
    Nonsense {
        /// The registry.
        host: String,
        /// What was requested.
        what: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// A redirect was not followed.
    #[error("registry {host} redirects {what} to an address that is not followed: {why}")]
    Redirect {
        /// The registry.
        host: String,
        /// What was requested.
        what: String,
        /// Why it was not followed.
        why: String,
    },
    /// A file that describes the registry cannot be used.
    #[error("registry {host} cannot be used: {} {why}", path.display())]
    Described {
        /// The registry.
        host: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it; reads after the path.
        why: String,
    },
    /// A file that describes the registry cannot be read.
    #[error("registry {host} cannot be used: cannot read {}", path.display())]
    Unreadable {
        /// The registry.
        host: String,
        /// The file.
        path: PathBuf,
        /// The error that the kernel returned.
        #[source]
        source: io::Error,
    },
    /// The registry's files allow no host for this operation.
    #[error("registry {host} has no host that may {what}: see its hosts.toml")]
    NoHost {
        /// The registry.
        host: String,
        /// `pull` or `resolve`.
        what: &'static str,
    },
    /// The credentials could not be determined.
    #[error("cannot get the credentials for registry {host}")]
    Login {
        /// The registry.
        host: String,
        /// Why the credentials could not be determined.
        #[source]
        source: crate::credentials::Error,
    },
    /// The caller's context ended first.
    #[error("{what} was interrupted")]
    Interrupted {
        /// What was requested.
        what: String,
        /// Why the context ended.
        #[source]
        source: Interrupted,
    },
}

impl Error {
    /// The HTTP status, if a registry returned one.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::Denied { status, .. } => Some(*status),
            Self::RateLimited { .. } => Some(429),
            _ => None,
        }
    }

    /// The reason, if the caller's context ended the work.
    pub(crate) fn interrupted(&self) -> Option<Interrupted> {
        match self {
            Self::Interrupted { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// Whether the same request may succeed if it is repeated. The URL to which a registry redirects may expire, so a
    /// refusal from there does not mean that the registry refuses.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Stalled { .. } | Self::Unreachable { .. } => true,
            Self::Refused {
                status, redirected, ..
            } => *status >= 500 || *status == 408 || *redirected,
            _ => false,
        }
    }

    /// Whether the host may be unable to handle a request for a range.
    pub(super) fn is_of_range(&self) -> bool {
        match self {
            Self::Nonsense { .. } => true,
            Self::Refused { status, .. } => *status == 416,
            _ => false,
        }
    }

    /// How long to wait before a new attempt makes sense, if the registry has specified it.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { after, .. } | Self::Refused { after, .. } => *after,
            _ => None,
        }
    }

    /// Whether the registry refused this request, in any form, as opposed to a login that the request needed.
    pub(super) fn is_refusal_of(&self, asked: &str) -> bool {
        match self {
            Self::Refused { what, .. }
            | Self::Denied { what, .. }
            | Self::RateLimited { what, .. }
            | Self::Broken { what, .. } => what == asked,
            _ => false,
        }
    }

    /// Whether the cause is not the registry, but its description on this host, or the programs that provide
    /// credentials.
    pub(crate) fn is_of_the_host(&self) -> bool {
        matches!(
            self,
            Self::Described { .. } | Self::Unreadable { .. } | Self::NoHost { .. } | Self::Login { .. }
        )
    }

    /// Whether another host with the same content may be tried.
    pub(super) fn is_of_one_host(&self) -> bool {
        !matches!(self, Self::Interrupted { .. })
    }
}

fn said(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

fn refusal(status: u16, anonymous: bool) -> &'static str {
    match (status, anonymous) {
        // The registry has not asked for credentials, and may have another reason.
        (403, true) => "answered 403 without credentials",
        (_, true) => "wants credentials, and there are none,",
        _ => "refuses the credentials",
    }
}

fn later(after: Option<Duration>) -> String {
    after.map_or_else(|| "later".to_owned(), |after| format!("in {} s", after.as_secs()))
}
