//! Why a command failed, as one clear sentence.

use super::remedy::{remedy, renamed};
use crate::containerd_driver::translate;
use crate::{driver, engine, sandbox};

/// What a person is told, and whoever reads JSON may act on.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub(super) struct Failure {
    sentence: String,
    kind: &'static str,
    /// The command could not be executed, or was not there.
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

    /// Something that was named is not there, or is not one thing.
    pub(super) fn missing(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            sentence: advised(crate::chain(error), error),
            kind: "not_found",
            exec: None,
        }
    }

    /// A signal came first.
    pub(super) fn interrupted() -> Self {
        Self {
            sentence: "interrupted by a signal".to_owned(),
            kind: "cancelled",
            exec: None,
        }
    }

    /// Something on this host that fnctr needs.
    pub(super) fn host(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            sentence: crate::chain(error),
            kind: "unavailable",
            exec: None,
        }
    }

    /// What is wrong with a network.
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

    /// What `run` exits with.
    pub(super) fn code_of_run(&self) -> u8 {
        self.exec
            .map_or(super::OWN_FAILURE, driver::ExecFailure::exit_code)
    }

    /// The word for programs.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }
}

/// A sentence in the words of this door, with what can be done about it, if anything is known.
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
