//! A call that the engine has refused, or that has not reached it.

use std::time::Duration;

use bollard::errors::Error as Client;

use super::ANSWER;
use crate::Interrupted;

/// The error of one call to the engine.
#[derive(Debug, thiserror::Error)]
#[error("cannot {call} {target}")]
pub(in crate::docker_driver) struct Failed {
    /// What was asked for; reads before the target.
    pub(in crate::docker_driver) call: &'static str,
    /// What it was asked about.
    pub(in crate::docker_driver) target: String,
    /// Why it was not done.
    #[source]
    pub(in crate::docker_driver) cause: Cause,
}

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
pub(in crate::docker_driver) enum Cause {
    /// The engine refused it.
    #[error("{message}")]
    Refused {
        /// The status of the HTTP answer.
        status: u16,
        /// The engine's own words, on one line.
        message: String,
    },
    /// It began, and then the engine reported a failure.
    #[error("{0}")]
    Broken(String),
    /// The engine cannot be reached, or has broken the connection.
    #[error("the engine cannot be reached")]
    Unreachable(#[source] Client),
    /// The engine did not answer in time.
    #[error("the engine did not answer within {0:?}")]
    Silent(Duration),
    /// The engine's answer is none that this client understands.
    #[error("the engine's answer cannot be understood")]
    Garbled(#[source] Client),
    /// A file of this machine cannot be read.
    #[error(transparent)]
    File(std::io::Error),
    /// The caller no longer waits.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Failed {
    /// Makes the error of a call from the client's.
    pub(super) fn of(call: &'static str, target: &str, error: Client) -> Self {
        Self::new(call, target, cause(error))
    }

    pub(in crate::docker_driver) fn new(call: &'static str, target: &str, cause: Cause) -> Self {
        Self {
            call,
            target: target.to_owned(),
            cause,
        }
    }

    /// The status with which the engine refused the call, if it did.
    pub(in crate::docker_driver) fn status(&self) -> Option<u16> {
        self.cause.status()
    }

    /// Whether what the call was about does not exist.
    pub(in crate::docker_driver) fn is_missing(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether the engine's words contain this, whatever the case.
    pub(in crate::docker_driver) fn says(&self, words: &str) -> bool {
        match &self.cause {
            Cause::Refused { message, .. } | Cause::Broken(message) => {
                message.to_ascii_lowercase().contains(&words.to_ascii_lowercase())
            }
            _ => false,
        }
    }

    /// Whether the engine may have done it all the same, because its answer is not known.
    pub(in crate::docker_driver) fn is_unknown(&self) -> bool {
        matches!(
            self.cause,
            Cause::Unreachable(_) | Cause::Silent(_) | Cause::Garbled(_)
        )
    }
}

impl Cause {
    /// The status with which the engine refused the call, if it did.
    pub(in crate::docker_driver) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Sorts the client's errors.
pub(super) fn cause(error: Client) -> Cause {
    match error {
        Client::DockerResponseServerError {
            status_code: status,
            message,
        } => Cause::Refused {
            status,
            message: one_line(&message),
        },
        Client::RequestTimeoutError => Cause::Silent(ANSWER),
        Client::DockerStreamError { error } => Cause::Broken(one_line(&error)),
        Client::JsonDataError { .. } | Client::JsonSerdeError { .. } | Client::StrParseError { .. } => {
            Cause::Garbled(error)
        }
        error => Cause::Unreachable(error),
    }
}

/// An engine's message may have several lines, and an error here is one sentence.
fn one_line(message: &str) -> String {
    let lines: Vec<_> = message.split_whitespace().collect();
    lines.join(" ")
}

#[cfg(test)]
impl Failed {
    /// A refusal, as the engine would send it.
    pub(in crate::docker_driver) fn refused(call: &'static str, status: u16, message: &str) -> Self {
        let error = Client::DockerResponseServerError {
            status_code: status,
            message: message.to_owned(),
        };
        Self::of(call, "c1", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_sentence_with_the_engine_s_own_words() {
        let failed = Failed::refused("start", 500, "OCI runtime\n  create failed:\tno\n");
        assert_eq!(
            crate::chain(&failed),
            "cannot start c1: OCI runtime create failed: no"
        );
        assert_eq!(failed.status(), Some(500));
        assert!(failed.says("runtime create FAILED") && !failed.is_unknown());
    }

    #[test]
    fn what_was_not_answered_may_have_been_done() {
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let failed = Failed::of("create", "c1", Client::from(io));
        assert!(failed.is_unknown() && failed.status().is_none());
        let silent = Failed::new("create", "c1", Cause::Silent(Duration::from_secs(1)));
        assert!(silent.is_unknown());
        let interrupted = Failed::new("create", "c1", Interrupted::Cancelled.into());
        assert!(!interrupted.is_unknown(), "it was not sent");
    }
}
