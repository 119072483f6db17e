//! Why a command failed, as one clear sentence.

use super::remedy::remedy;
use crate::{driver, sandbox};

/// What the crate calls a setting in its errors, and the option here that sets it.
const OPTIONS: [(&str, &str); 2] = [("fs_size", "--fs-size"), ("oom_group", "--oom-group")];

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
        use sandbox::Error;
        let kind = match error {
            Error::NoSuchNetwork { .. } => "not_found",
            Error::Exists { .. } | Error::InUse { .. } | Error::PortTaken { .. } | Error::NotOurs { .. } => {
                "conflict"
            }
            Error::Name { .. } | Error::Subnet { .. } | Error::CannotPublish { .. } => "usage",
            Error::Config { .. } | Error::NoPlugin { .. } => "invalid_config",
            Error::Interrupted(_) => "cancelled",
            Error::NoSubnet { .. } | Error::Spawn { .. } | Error::Plugin { .. } | Error::Hangs { .. } => {
                "unavailable"
            }
            _ => "internal",
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
    let sentence = OPTIONS
        .iter()
        .fold(sentence, |text, (field, option)| text.replace(field, option));
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
