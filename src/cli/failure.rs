//! The reason why a command failed, as one sentence.

use super::remedy::{remedy, renamed};
use crate::containerd_driver::translate;
use crate::{driver, engine, sandbox};

/// Why a command failed: a sentence for people, and a kind on which programs can act.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub(super) struct Failure {
    pub(super) sentence: String,
    kind: &'static str,
    /// Set if the function's command could not be executed or does not exist.
    exec: Option<driver::ExecFailure>,
}

impl Failure {
    /// A mistake on the command line.
    pub(super) fn usage(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            kind: "usage",
            exec: None,
        }
    }

    /// A name that the user gave matches nothing, or more than one thing.
    pub(super) fn missing(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            sentence: advised(crate::chain(error), error),
            kind: "not_found",
            exec: None,
        }
    }

    /// The result of something that happened is lost.
    pub(super) fn lost(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            kind: "not_found",
            exec: None,
        }
    }

    /// A signal ended the command early.
    pub(super) fn interrupted() -> Self {
        Self {
            sentence: "interrupted by a signal".to_owned(),
            kind: "cancelled",
            exec: None,
        }
    }

    /// Something has failed that neither the user nor the host is known to be responsible for.
    pub(super) fn internal(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            kind: "internal",
            exec: None,
        }
    }

    /// Something that fnctr needs from this host has failed.
    pub(super) fn host(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            sentence: crate::chain(error),
            kind: "unavailable",
            exec: None,
        }
    }

    /// An operation on a network has failed.
    pub(super) fn network(error: &sandbox::Error) -> Self {
        let kind = match error {
            sandbox::Error::NoSuchNetwork { .. } => "not_found",
            error if error.interrupted().is_some() => "cancelled",
            error if error.is_callers() => "usage",
            error if error.is_conflict() => "conflict",
            error if error.is_configuration() => "invalid_config",
            _ => "unavailable",
        };
        Self {
            sentence: crate::chain(error),
            kind,
            exec: None,
        }
    }

    /// The exit code of `run` for this failure.
    pub(super) fn code_of_run(&self) -> u8 {
        self.exec
            .map_or(super::OWN_FAILURE, driver::ExecFailure::exit_code)
    }

    /// The kind of the failure, for programs.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }
}

/// Replaces the names of settings in a sentence by those of options, and adds a remedy if one is known.
fn advised(sentence: String, error: &(dyn std::error::Error + 'static)) -> String {
    let sentence = match renamed(error) {
        Some((field, option)) => sentence.replace(field, option),
        None => sentence,
    };
    match remedy(error) {
        Some(remedy) => format!("{sentence}; {remedy}"),
        None => sentence,
    }
}

impl From<driver::Error> for Failure {
    fn from(error: driver::Error) -> Self {
        Self {
            sentence: advised(error.report(), &error),
            kind: error.kind().as_str(),
            exec: error.exec_failure(),
        }
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        translate(error).into()
    }
}
