//! Why a command failed, as one clear sentence.

use super::remedy::remedy;
use crate::driver;

/// What a person is told, and whoever reads JSON may act on.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub(super) struct Failure {
    sentence: String,
    kind: &'static str,
}

impl Failure {
    /// A mistake on the command line.
    pub(super) fn usage(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            kind: "usage",
        }
    }

    /// Something that was named is not there, or is not one thing.
    pub(super) fn missing(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            sentence: advised(crate::chain(error), error),
            kind: "not_found",
        }
    }

    /// A signal came first.
    pub(super) fn interrupted() -> Self {
        Self {
            sentence: "interrupted by a signal".to_owned(),
            kind: "cancelled",
        }
    }

    /// Something on this host that fnctr needs.
    pub(super) fn host(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            sentence: crate::chain(error),
            kind: "unavailable",
        }
    }

    /// The word for programs.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }
}

/// A sentence with what can be done about it, if anything is known.
fn advised(sentence: String, error: &(dyn std::error::Error + 'static)) -> String {
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
        }
    }
}
