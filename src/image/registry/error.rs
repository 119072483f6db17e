//! What can go wrong between us and a registry. The sentence names the registry and what was asked of it; never a
//! credential, and never the query of a URL, because a redirect's often is one.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::Interrupted;

/// Something asked of a registry that did not come.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is read as registry::Error")]
pub(crate) enum Error {
    /// It answered, and the answer is no.
    #[error("registry {host} answered {status} for {what}{}", said(message))]
    Refused {
        /// Which registry, or where it redirected to.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// What the registry said about it; empty if nothing.
        message: String,
        /// When it would answer again, if it said so.
        after: Option<Duration>,
        /// The answer came from another host than the one that was asked.
        redirected: bool,
    },
    /// It wants a login, and the one that it got, or the lack of one, was not enough.
    #[error("registry {host} {} for {what}{}", refusal(*status, *anonymous), said(message))]
    Denied {
        /// Which registry.
        host: String,
        /// What was asked for.
        what: String,
        /// 401 or 403.
        status: u16,
        /// What it said.
        message: String,
        /// There were no credentials to send.
        anonymous: bool,
    },
    /// It wants to be asked later.
    #[error("registry {host} limits how often it is asked for {what}: try again {}{}", later(*after), said(message))]
    RateLimited {
        /// Which registry.
        host: String,
        /// What was asked for.
        what: String,
        /// When it would answer again, if it said so.
        after: Option<Duration>,
        /// What it said; empty if nothing.
        message: String,
    },
    /// No connection could be made.
    #[error("registry {host} cannot be reached")]
    Unreachable {
        /// Which registry.
        host: String,
        /// What the network said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke.
    #[error("the connection to registry {host} broke during {what}")]
    Broken {
        /// Which registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What the network said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing came for a while.
    #[error("registry {host} sent nothing for {limit:?} during {what}")]
    Stalled {
        /// Which registry.
        host: String,
        /// What was asked for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// More came than may.
    #[error("{what} of registry {host} is larger than the {max} bytes that are allowed")]
    TooLarge {
        /// Which registry.
        host: String,
        /// What was asked for.
        what: String,
        /// The limit.
        max: u64,
    },
    /// What came is not what its digest says.
    #[error("registry {host} sent {what} with the digest {found}")]
    WrongDigest {
        /// Which registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What it is instead.
        found: String,
    },
    /// What came makes no sense.
    #[error("registry {host} gave an invalid answer for {what}: {why}")]
    Nonsense {
        /// Which registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// A redirect that is not followed.
    #[error("registry {host} redirects {what} to an address that is not followed: {why}")]
    Redirect {
        /// Which registry.
        host: String,
        /// What was asked for.
        what: String,
        /// Why not.
        why: String,
    },
    /// A file that describes the registry cannot be used.
    #[error("registry {host} cannot be used: {} {why}", path.display())]
    Described {
        /// Which registry.
        host: String,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it; reads after the path.
        why: String,
    },
    /// A file that describes the registry cannot be read.
    #[error("registry {host} cannot be used: cannot read {}", path.display())]
    Unreadable {
        /// Which registry.
        host: String,
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Its files allow no host for this.
    #[error("registry {host} has no host that may {what}: see its hosts.toml")]
    NoHost {
        /// Which registry.
        host: String,
        /// `pull` or `resolve`.
        what: &'static str,
    },
    /// The credentials for it could not be had.
    #[error("cannot get the credentials for registry {host}")]
    Login {
        /// Which registry.
        host: String,
        /// Why.
        #[source]
        source: super::super::credentials::Error,
    },
    /// The caller's context ended first.
    #[error("{what} was interrupted")]
    Interrupted {
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: Interrupted,
    },
}

impl Error {
    /// The HTTP status, if a registry gave one.
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

    /// The same request may succeed if it is made again. A place that was redirected to has a URL that ends, so its
    /// refusal says nothing about the registry.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Stalled { .. } | Self::Unreachable { .. } => true,
            Self::Refused {
                status, redirected, ..
            } => *status >= 500 || *status == 408 || *redirected,
            _ => false,
        }
    }

    /// It may be that the host does not understand what it means to begin in the middle.
    pub(super) fn is_of_range(&self) -> bool {
        match self {
            Self::Nonsense { .. } => true,
            Self::Refused { status, .. } => *status == 416,
            _ => false,
        }
    }

    /// How long to wait before it is worth asking again, as the registry has said.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { after, .. } | Self::Refused { after, .. } => *after,
            _ => None,
        }
    }

    /// It is a registry's no to just this request, in whichever form, and not to a login on the way there.
    pub(super) fn is_refusal_of(&self, asked: &str) -> bool {
        match self {
            Self::Refused { what, .. }
            | Self::Denied { what, .. }
            | Self::RateLimited { what, .. }
            | Self::Broken { what, .. } => what == asked,
            _ => false,
        }
    }

    /// The registry has nothing to do with it: the files that describe it, or the programs that know its logins.
    pub(crate) fn is_of_the_host(&self) -> bool {
        matches!(
            self,
            Self::Described { .. } | Self::Unreadable { .. } | Self::NoHost { .. } | Self::Login { .. }
        )
    }

    /// Another host that has the same thing may be asked.
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
        // It has not asked for any, and may have another reason.
        (403, true) => "answered 403 without credentials",
        (_, true) => "wants credentials, and there are none,",
        _ => "refuses the credentials",
    }
}

fn later(after: Option<Duration>) -> String {
    after.map_or_else(|| "later".to_owned(), |after| format!("in {} s", after.as_secs()))
}
