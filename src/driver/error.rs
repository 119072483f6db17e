//! The errors of drivers, in the one vocabulary that hosts depend on.
//!
//! A failed *function* is not an error, but a [`RunResult`](super::RunResult). HTTP-like codes, retries and metric
//! labels are functions of the kind, each written once, here. Never names a transport or an engine.

use std::error::Error as StdError;
use std::fmt;

use crate::{Interrupted, InvalidName};

type Source = Box<dyn StdError + Send + Sync>;

/// The kind of a failure: the only property that a caller may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The task asks for something impossible: a bad limit, a missing command, an unknown user.
    InvalidTask,
    /// The task is valid, but this machine cannot enforce it: a limit without a controller, a quota without a file
    /// system.
    Unsupported,
    /// The driver's own configuration, or its retry policy, is invalid.
    InvalidConfig,
    /// The image is neither on this machine nor in its registry.
    ImageNotFound,
    /// The registry refused the credentials, or the lack of them.
    ImageDenied,
    /// The image exists, but this driver does not run it.
    ImageRejected,
    /// Try again later: an image disappeared during the step, or a pool is exhausted.
    Busy,
    /// A method of the cookie was called out of order.
    OutOfOrder,
    /// The requested object no longer exists.
    NotFound,
    /// The name is taken by an existing object.
    Conflict,
    /// The deadline passed before the driver was done.
    Timeout,
    /// The caller cancelled before the driver was done.
    Cancelled,
    /// The engine or the registry cannot be reached.
    Unavailable,
    /// The function's syslog endpoint cannot be reached.
    SyslogUnavailable,
    /// An internal failure that is not expected.
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

    /// The HTTP-like code of errors of this kind, unless the error has its own code.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::InvalidTask | Self::InvalidConfig | Self::ImageRejected => 400,
            Self::ImageDenied => 403,
            Self::ImageNotFound | Self::NotFound => 404,
            Self::OutOfOrder | Self::Conflict => 409,
            // In no standard: proxies use it when the client has gone away.
            Self::Cancelled => 499,
            Self::SyslogUnavailable | Self::Internal => 500,
            Self::Unsupported => 501,
            Self::Busy | Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// Whether the same call may succeed later although nothing was changed.
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
                // The task names the endpoint.
                | Self::SyslogUnavailable
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the task's command cannot be executed, for an error with this cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExecFailure {
    /// The image lacks the command, or the interpreter or loader that the command names.
    NotFound,
    /// The image contains the command, but it cannot be executed: it is a directory, lacks the execute permission, or
    /// has a format that the kernel does not know.
    NotExecutable,
}

impl ExecFailure {
    /// The exit code of a shell in this case (POSIX, 2.8.2), and of `docker run`.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
        }
    }
}

/// A kind, and the error that describes what happened.
///
/// Displays as that error and returns its causes, so that no text appears twice; [`report`](Error::report) returns the
/// whole sentence.
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
    /// Creates an error of this kind; `source` is a typed error, or a text if no caller needs more.
    pub fn new(kind: ErrorKind, source: impl Into<Source>) -> Self {
        Self {
            kind,
            code: None,
            functions_fault: kind.is_user_error(),
            command: None,
            source: source.into(),
        }
    }

    /// An error for a failed pull. A 4xx `status` of a registry becomes the error's code, anything else becomes 502.
    /// The function is at fault in every case, because it named the image.
    pub fn pull(image: impl Into<String>, status: Option<u16>, cause: impl Into<Source>) -> Self {
        let (kind, code) = match status {
            Some(404) => (ErrorKind::ImageNotFound, 404),
            Some(code @ (401 | 403)) => (ErrorKind::ImageDenied, code),
            // The registry asks to retry later: the code stays, and the kind lets a retry policy see it.
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

    /// An error for a pull that would fail on every retry, because the image itself is at fault: it is corrupt, or for
    /// other machines. The code is 502, as for every pull that no registry has refused.
    pub fn rejected_pull(image: impl Into<String>, cause: impl Into<Source>) -> Self {
        Self {
            kind: ErrorKind::ImageRejected,
            ..Self::pull(image, None, cause)
        }
    }

    /// An error for a pull that failed for a reason of this machine: its disk is full, a file that describes a registry
    /// is broken. The code is 502, as for every pull that no registry has refused.
    pub fn failed_pull(image: impl Into<String>, cause: impl Into<Source>) -> Self {
        Self {
            kind: ErrorKind::Internal,
            ..Self::pull(image, None, cause)
        }
    }

    /// The error of every call on a closed driver, except the close of a cookie.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(ErrorKind::Unavailable, "the driver is closed")
    }

    /// The same error with its own code.
    #[must_use]
    pub fn with_code(mut self, code: u16) -> Self {
        self.code = Some(code);
        self
    }

    /// The same error, with the reason why the task's command cannot be executed.
    #[must_use]
    pub fn with_exec_failure(mut self, why: ExecFailure) -> Self {
        self.command = Some(why);
        self
    }

    /// Why the task's command cannot be executed, if that is the cause.
    #[must_use]
    pub fn exec_failure(&self) -> Option<ExecFailure> {
        self.command
    }

    /// The kind of the failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The HTTP-like code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code.unwrap_or_else(|| self.kind.code())
    }

    /// Whether the same call may succeed later although nothing was changed.
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

    /// The whole chain of causes as one readable sentence; see [`report`].
    #[must_use]
    pub fn report(&self) -> String {
        report(self)
    }
}

/// An error and the chain of its causes as one readable sentence, joined with `": "`.
#[must_use]
pub fn report(error: &(dyn StdError + 'static)) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries repeat the text of their cause in their own.
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
    /// The kind and the sentence: the output of a failed `unwrap` in a test.
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

/// A failed pull. With its cause it reads `Failed to pull image 'X': reason`, the text that hosts show.
#[derive(Debug, thiserror::Error)]
#[error("Failed to pull image '{image}'")]
pub struct PullFailed {
    /// The image as the task names it.
    pub image: String,
    /// The error of the registry or the network.
    #[source]
    cause: Source,
}

/// An image declares volumes, but the configuration does not allow them.
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

/// A syslog endpoint that could not be connected when the container was about to start.
#[derive(Debug, thiserror::Error)]
#[error("syslog at {url} is unavailable")]
pub struct ErrSyslogUnavailable {
    /// The URL of the logger configuration.
    pub url: String,
    /// The error of the connection.
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
    fn nothing_in_a_report_is_repeated() {
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
