//! Errors of containerd. They keep the gRPC code, so that callers depend on codes and not on text.

use std::time::Duration;
use std::{fmt, io};

use tonic::{Code, Status};

use crate::Interrupted;

/// A call that failed: its name, its target and the cause.
#[derive(Debug)]
#[expect(clippy::error_impl_error, reason = "it is read as containerd::Error")]
pub(crate) struct Error {
    call: &'static str,
    target: String,
    cause: Cause,
}

/// The cause. The variants differ in what a caller may conclude.
#[derive(Debug)]
pub(super) enum Cause {
    /// containerd answered with an error.
    Refused(Status),
    /// The connection failed, so it is unknown whether the call had an effect.
    Lost(Status),
    /// containerd did not answer within the call's ceiling, which ended before any deadline of the caller.
    Silent(Duration),
    /// The caller's context ended first.
    Interrupted(Interrupted),
    /// The socket could not be opened. The target is its path.
    Socket(io::Error),
    /// Another program listens on the socket and speaks this protocol instead of gRPC. The target is the socket's path.
    Foreign(&'static str),
    /// The answer cannot be understood.
    Malformed(String),
    /// The data to be written could not be read.
    Input(io::Error),
    /// The request cannot be expressed, or was refused before it was sent.
    Unusable(String),
}

impl Error {
    pub(super) fn new(call: &'static str, target: impl Into<String>, cause: Cause) -> Self {
        Self {
            call,
            target: target.into(),
            cause,
        }
    }

    /// The error for a request that is known to be impossible before it is sent.
    pub(crate) fn unusable(call: &'static str, target: &str, what: String) -> Self {
        Self::new(call, target, Cause::Unusable(what))
    }

    /// Returns the reader's own error, if the data to be written could not be read.
    ///
    /// # Errors
    /// Returns this error unchanged if it has another cause.
    pub(crate) fn into_input(self) -> Result<io::Error, Self> {
        match self.cause {
            Cause::Input(why) => Ok(why),
            _ => Err(self),
        }
    }

    /// Whether containerd's refusal contains these words. Only for facts that its code does not carry: the words of a
    /// runtime.
    pub(crate) fn says(&self, words: &str) -> bool {
        self.message().is_some_and(|message| message.contains(words))
    }

    /// What containerd answered, if it refused the call.
    pub(crate) fn message(&self) -> Option<&str> {
        match &self.cause {
            Cause::Refused(status) => Some(status.message()),
            _ => None,
        }
    }

    /// The call, as in `Tasks/Create`.
    pub(crate) fn call(&self) -> &'static str {
        self.call
    }

    /// The target of the call: a container, an image, a digest, a path.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Whether the target does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code() == Some(Code::NotFound)
    }

    /// Whether the target exists already.
    pub(crate) fn is_already_exists(&self) -> bool {
        self.code() == Some(Code::AlreadyExists)
    }

    /// Whether the target's state does not allow the call (a running task cannot be deleted).
    pub(crate) fn is_failed_precondition(&self) -> bool {
        self.code() == Some(Code::FailedPrecondition)
    }

    /// Whether the server lacks this call.
    pub(crate) fn is_unimplemented(&self) -> bool {
        self.code() == Some(Code::Unimplemented)
    }

    /// Whether the request itself is wrong.
    pub(crate) fn is_invalid(&self) -> bool {
        self.code() == Some(Code::InvalidArgument) || matches!(self.cause, Cause::Unusable(_))
    }

    /// Whether containerd cannot be reached, went away, or does not answer. The call may have had its effect.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self.cause, Cause::Lost(_) | Cause::Silent(_) | Cause::Socket(_))
            || (self.code() == Some(Code::Unavailable) && !self.is_locked())
    }

    /// Whether another client is writing the same thing. containerd has no code for this: the code is `Unavailable`,
    /// and the text contains "locked" (content/local/locks.go).
    pub(crate) fn is_locked(&self) -> bool {
        matches!(&self.cause, Cause::Refused(status)
            if status.code() == Code::Unavailable && status.message().contains("locked"))
    }

    /// Whether the disk of containerd's data is full. Only the kernel's text is passed on, not its number (errno 28,
    /// 122).
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(&self.cause, Cause::Refused(status)
            if ["no space left on device", "disk quota exceeded"].iter().any(|text| status.message().contains(text)))
    }

    /// The reason, if the caller's context ended the call.
    pub(crate) fn interrupted(&self) -> Option<Interrupted> {
        match self.cause {
            Cause::Interrupted(why) => Some(why),
            _ => None,
        }
    }

    fn code(&self) -> Option<Code> {
        match &self.cause {
            Cause::Refused(status) => Some(status.code()),
            _ => None,
        }
    }
}

/// Classifies a status. A status with a source was made on this side, from a broken connection; containerd's own has
/// none. The code depends on the state of the connection: a refused one gives `Unavailable`, one cut in the middle
/// `Unknown` or `Internal`. All of them become [`Cause::Lost`].
pub(super) fn cause_of(status: Status) -> Cause {
    if std::error::Error::source(&status).is_some() {
        Cause::Lost(status)
    } else {
        Cause::Refused(status)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, target, .. } = self;
        // "Version/Version" is about the server only, so it has no target.
        let about = if target.is_empty() {
            String::new()
        } else {
            format!(" for {target}")
        };
        match &self.cause {
            Cause::Refused(status) if status.message().is_empty() => {
                write!(f, "containerd refused {call}{about} ({:?})", status.code())
            }
            Cause::Refused(status) => write!(f, "containerd refused {call}{about}: {}", status.message()),
            Cause::Lost(_) => write!(f, "the connection to containerd failed during {call}{about}"),
            Cause::Silent(limit) => write!(f, "containerd did not answer {call}{about} within {limit:?}"),
            Cause::Interrupted(_) => write!(f, "{call}{about} was interrupted"),
            Cause::Socket(why) => match why.kind() {
                io::ErrorKind::NotFound => write!(f, "containerd is not there: no socket at {target}"),
                io::ErrorKind::ConnectionRefused => {
                    write!(f, "containerd is not running: no process listens on {target}")
                }
                io::ErrorKind::PermissionDenied => {
                    write!(f, "the containerd socket {target} is not open to this user")
                }
                _ => write!(f, "cannot connect to containerd at {target}"),
            },
            Cause::Foreign(what) => {
                write!(
                    f,
                    "{target} is not containerd's socket: what listens there speaks {what}, not gRPC"
                )
            }
            Cause::Malformed(what) => {
                write!(f, "containerd's answer to {call}{about} is malformed: {what}")
            }
            Cause::Input(_) => write!(f, "cannot read the data of {call}{about}"),
            Cause::Unusable(what) => write!(f, "cannot ask containerd for {call}{about}: {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Lost(status) => status.source(),
            Cause::Interrupted(why) => Some(why),
            // For these three kinds the message is complete, so there is no further source.
            Cause::Socket(why) => match why.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::PermissionDenied => None,
                _ => Some(why),
            },
            Cause::Input(why) => Some(why),
            Cause::Refused(_)
            | Cause::Silent(_)
            | Cause::Foreign(_)
            | Cause::Malformed(_)
            | Cause::Unusable(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_one_sentence_and_keeps_its_code() {
        let err = Error::new(
            "Tasks/Create",
            "c-42",
            cause_of(Status::not_found("no such container")),
        );
        assert_eq!(
            err.to_string(),
            "containerd refused Tasks/Create for c-42: no such container"
        );
        assert!(err.is_not_found() && !err.is_unavailable() && !err.is_already_exists());
        assert_eq!(
            (err.call(), err.target(), err.interrupted()),
            ("Tasks/Create", "c-42", None)
        );
    }

    #[test]
    fn an_interruption_is_distinguished_from_a_refusal() {
        let cause = Cause::Interrupted(Interrupted::DeadlineExceeded);
        let err = Error::new("Tasks/Wait", "c-42", cause);
        assert_eq!(err.to_string(), "Tasks/Wait for c-42 was interrupted");
        assert_eq!(
            std::error::Error::source(&err).map(ToString::to_string),
            Some("deadline exceeded".into())
        );
        assert_eq!(err.interrupted(), Some(Interrupted::DeadlineExceeded));
        assert!(!err.is_unavailable());
    }
}
