//! What a driver says when it could not do its job, in the one vocabulary that hosts act on.
//!
//! A failed *function* is not an error: that is a [`RunResult`](super::RunResult). HTTP-like codes, retries and metric
//! labels are functions of the kind, each written once, here. Never names a transport or an engine.

use std::error::Error as StdError;
use std::fmt;

use crate::{Interrupted, InvalidName};

type Source = Box<dyn StdError + Send + Sync>;

/// What kind of failure it was: all that a caller may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The task asks for something that cannot be: a bad limit, a missing command, an unknown user.
    InvalidTask,
    /// The task is fine, but this host cannot keep it: a limit without a controller, a quota without a file system.
    Unsupported,
    /// The driver's own configuration, or its retry policy, cannot be.
    InvalidConfig,
    /// The image is neither here nor in its registry.
    ImageNotFound,
    /// The registry refused the credentials, or the lack of them.
    ImageDenied,
    /// The image is there, but this driver will not run it.
    ImageRejected,
    /// Try again later: an image vanished in the middle, or a pool is exhausted.
    Busy,
    /// A method of the cookie was called before its turn.
    OutOfOrder,
    /// The thing that was asked for is gone.
    NotFound,
    /// The name is taken by something that lives.
    Conflict,
    /// The deadline passed before the driver was done.
    Timeout,
    /// The caller gave up before the driver was done.
    Cancelled,
    /// The engine or the registry cannot be reached.
    Unavailable,
    /// The function's syslog endpoint cannot be reached.
    SyslogUnavailable,
    /// Something failed that should not have.
    Internal,
}

impl ErrorKind {
    /// The kind as a label for metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidTask => "invalid_task",
            Self::Unsupported => "unsupported",
            Self::InvalidConfig => "invalid_config",
            Self::ImageNotFound => "image_not_found",
            Self::ImageDenied => "image_denied",
            Self::ImageRejected => "image_rejected",
            Self::Busy => "busy",
            Self::OutOfOrder => "out_of_order",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Unavailable => "unavailable",
            Self::SyslogUnavailable => "syslog_unavailable",
            Self::Internal => "internal",
        }
    }

    /// The HTTP-like code of errors of this kind that carry none of their own.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::InvalidTask | Self::InvalidConfig | Self::ImageRejected => 400,
            Self::ImageDenied => 403,
            Self::ImageNotFound | Self::NotFound => 404,
            Self::OutOfOrder | Self::Conflict => 409,
            // Not in any standard: what proxies say when the client went away.
            Self::Cancelled => 499,
            Self::SyslogUnavailable | Self::Internal => 500,
            Self::Unsupported => 501,
            Self::Busy | Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable | Self::Timeout)
    }

    /// Whether the function (its task or its image) is at fault rather than the platform.
    #[must_use]
    pub fn is_user_error(self) -> bool {
        matches!(
            self,
            Self::InvalidTask
                | Self::ImageNotFound
                | Self::ImageDenied
                | Self::ImageRejected
                // The task has named the endpoint.
                | Self::SyslogUnavailable
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the task's command cannot be executed, where that is what is wrong with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExecFailure {
    /// The image has no such command, or not the interpreter or loader that it names.
    NotFound,
    /// The image has it, and it cannot be executed: it is a directory, nobody has the permission, or the kernel does not know its
    /// format.
    NotExecutable,
}

impl ExecFailure {
    /// What a shell exits with then (POSIX, 2.8.2), and `docker run` too.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
        }
    }
}

/// A kind, and the error that says what happened.
///
/// It displays as that error does and hands on its causes, so that nothing is told twice;
/// [`report`](Error::report) is the whole sentence.
#[expect(
    clippy::error_impl_error,
    reason = "the contract has one error; outside it reads `driver::Error`"
)]
pub struct Error {
    kind: ErrorKind,
    code: Option<u16>,
    functions_fault: bool,
    command: Option<ExecFailure>,
    source: Source,
}

impl Error {
    /// An error of this kind; `source` is a typed error, or a text where nobody will need more.
    pub fn new(kind: ErrorKind, source: impl Into<Source>) -> Self {
        Self {
            kind,
            code: None,
            functions_fault: kind.is_user_error(),
            command: None,
            source: source.into(),
        }
    }

    /// A pull that failed. The 4xx `status` of a registry stays the error's code, anything else becomes 502, and the
    /// function is at fault whatever the reason, because it named the image.
    pub fn pull(image: impl Into<String>, status: Option<u16>, cause: impl Into<Source>) -> Self {
        let (kind, code) = match status {
            Some(404) => (ErrorKind::ImageNotFound, 404),
            Some(code @ (401 | 403)) => (ErrorKind::ImageDenied, code),
            // The registry's words for "later": the code stays, and the kind lets a retry policy see it.
            Some(code @ (408 | 429)) => (ErrorKind::Busy, code),
            Some(code @ 400..=499) => (ErrorKind::ImageRejected, code),
            _ => (ErrorKind::Unavailable, 502),
        };
        let failed = PullFailed {
            image: image.into(),
            cause: cause.into(),
        };
        Self {
            kind,
            code: Some(code),
            functions_fault: true,
            command: None,
            source: Box::new(failed),
        }
    }

    /// A pull that would fail again however often it is tried, because the image itself is at fault: it is corrupt, or for
    /// other machines. The code is that of every pull that no registry has refused, 502.
    pub fn rejected_pull(image: impl Into<String>, cause: impl Into<Source>) -> Self {
        Self {
            kind: ErrorKind::ImageRejected,
            ..Self::pull(image, None, cause)
        }
    }

    /// A pull that failed for a reason of this host: its disk is full, a file that describes a registry is broken. The code
    /// is that of every pull that no registry has refused, 502.
    pub fn failed_pull(image: impl Into<String>, cause: impl Into<Source>) -> Self {
        Self {
            kind: ErrorKind::Internal,
            ..Self::pull(image, None, cause)
        }
    }

    /// What a driver says to every call, but the close of a cookie, once it was closed.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(ErrorKind::Unavailable, "the driver is closed")
    }

    /// The same error with a code of its own.
    #[must_use]
    pub fn with_code(mut self, code: u16) -> Self {
        self.code = Some(code);
        self
    }

    /// The same error, which says of the task's command why it cannot be executed.
    #[must_use]
    pub fn with_exec_failure(mut self, why: ExecFailure) -> Self {
        self.command = Some(why);
        self
    }

    /// Why the task's command cannot be executed, if that is what is wrong.
    #[must_use]
    pub fn exec_failure(&self) -> Option<ExecFailure> {
        self.command
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The HTTP-like code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code.unwrap_or_else(|| self.kind.code())
    }

    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }

    /// Whether the function (its task or its image) is at fault rather than the platform.
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        self.functions_fault
    }

    /// The typed error inside, such as [`ErrImageWithVolume`], if it is one.
    #[must_use]
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.source.downcast_ref()
    }

    /// The whole chain of causes as one sentence for a person; see [`report`].
    #[must_use]
    pub fn report(&self) -> String {
        report(self)
    }
}

/// An error and the chain of its causes as one sentence for a person, joined with `": "`.
#[must_use]
pub fn report(error: &(dyn StdError + 'static)) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries put their cause into their own text too.
        if !sentence.ends_with(&text) {
            sentence.push_str(": ");
            sentence.push_str(&text);
        }
        cause = error.source();
    }
    sentence
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)
    }
}

impl fmt::Debug for Error {
    /// The kind and the sentence: what a failed `unwrap` in a test should show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({}): {}", self.kind, self.code(), self.report())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.source()
    }
}

impl From<Interrupted> for Error {
    fn from(why: Interrupted) -> Self {
        let kind = match why {
            Interrupted::Cancelled => ErrorKind::Cancelled,
            Interrupted::DeadlineExceeded => ErrorKind::Timeout,
        };
        Self::new(kind, why)
    }
}

impl From<InvalidName> for Error {
    fn from(name: InvalidName) -> Self {
        Self::new(ErrorKind::InvalidTask, name)
    }
}

/// Why a pull failed; with its cause it reads `Failed to pull image 'X': reason`, which is what hosts show.
#[derive(Debug, thiserror::Error)]
#[error("Failed to pull image '{image}'")]
pub struct PullFailed {
    /// The image as the task names it.
    pub image: String,
    /// What the registry or the network said.
    #[source]
    cause: Source,
}

/// An image that declares volumes, under a configuration that does not allow them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image {image:?} declares the volume {volume:?}, and volumes in images are not enabled")]
pub struct ErrImageWithVolume {
    /// The image as the task names it.
    pub image: String,
    /// The first volume that it declares.
    pub volume: String,
}

impl From<ErrImageWithVolume> for Error {
    fn from(found: ErrImageWithVolume) -> Self {
        Self::new(ErrorKind::ImageRejected, found)
    }
}

/// A syslog endpoint that could not be connected when the container was to start.
#[derive(Debug, thiserror::Error)]
#[error("syslog at {url} is unavailable")]
pub struct ErrSyslogUnavailable {
    /// The URL of the logger configuration.
    pub url: String,
    /// What the connection failed with.
    #[source]
    pub cause: std::io::Error,
}

impl From<ErrSyslogUnavailable> for Error {
    fn from(unavailable: ErrSyslogUnavailable) -> Self {
        Self::new(ErrorKind::SyslogUnavailable, unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_refusal_stays_and_everything_else_is_a_bad_gateway() {
        for (status, code, kind) in [
            (Some(404), 404, ErrorKind::ImageNotFound),
            (Some(401), 401, ErrorKind::ImageDenied),
            (Some(403), 403, ErrorKind::ImageDenied),
            (Some(418), 418, ErrorKind::ImageRejected),
            (Some(429), 429, ErrorKind::Busy),
            (Some(500), 502, ErrorKind::Unavailable),
            (None, 502, ErrorKind::Unavailable),
        ] {
            let error = Error::pull("quay.io/a/b", status, "connection reset");
            assert_eq!((error.code(), error.kind()), (code, kind), "{status:?}");
            assert!(error.is_user_error(), "{status:?}");
            assert_eq!(
                error.report(),
                "Failed to pull image 'quay.io/a/b': connection reset"
            );
        }
    }

    #[test]
    fn an_image_that_is_at_fault_is_not_pulled_again() {
        let error = Error::rejected_pull("a", "it is for linux/arm64");
        assert_eq!((error.code(), error.kind()), (502, ErrorKind::ImageRejected));
        assert!(error.is_user_error() && !error.is_retryable());
        assert_eq!(error.report(), "Failed to pull image 'a': it is for linux/arm64");
    }

    #[test]
    fn nothing_in_a_report_is_told_twice() {
        let cause = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error = Error::from(ErrSyslogUnavailable {
            url: "tcp://logs:514".to_owned(),
            cause,
        });
        assert_eq!(error.to_string(), "syslog at tcp://logs:514 is unavailable");
        assert_eq!(
            error.report(),
            "syslog at tcp://logs:514 is unavailable: connection refused"
        );
        assert!(error.downcast_ref::<ErrSyslogUnavailable>().is_some());
        assert!(error.is_user_error(), "the task has named the endpoint");
    }

    #[test]
    fn an_image_with_a_volume_is_the_functions_fault() {
        let error = Error::from(ErrImageWithVolume {
            image: "a/b".to_owned(),
            volume: "/data".to_owned(),
        });
        assert_eq!((error.code(), error.is_user_error()), (400, true));
        assert!(!error.is_retryable());
    }

    #[test]
    fn an_interruption_keeps_its_reason() {
        let late = Error::from(Interrupted::DeadlineExceeded);
        assert_eq!((late.kind(), late.code()), (ErrorKind::Timeout, 504));
        let cancelled = Error::from(Interrupted::Cancelled);
        assert_eq!((cancelled.kind(), cancelled.code()), (ErrorKind::Cancelled, 499));
        assert!(late.is_retryable() && !cancelled.is_retryable());
    }
}
