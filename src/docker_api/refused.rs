//! What a client is told when a request fails: a status and one message. The statuses of the engine's errors are here and
//! nowhere else.

use std::fmt;

use hyper::StatusCode;

use crate::engine::{self, Kind};

/// Why a request is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message }
    }

    /// The request is wrong.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// What it names does not exist.
    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// It does not fit the state of what it names.
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// The server cannot do it.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Docker has it, this server does not.
    pub(super) fn not_served(what: impl fmt::Display) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("fnctr does not serve {what}"),
        )
    }

    /// No container is called that.
    pub(super) fn no_container(given: &str) -> Self {
        Self::missing(format!("No such container: {given}"))
    }

    /// A page that Docker does not have either.
    pub(super) fn no_page() -> Self {
        Self::missing("page not found")
    }
}

impl From<engine::Error> for Refused {
    fn from(error: engine::Error) -> Self {
        Self::new(status_of(error.kind()), crate::chain(&error))
    }
}

/// The status of an error of the engine.
fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::InvalidPlan
        | Kind::CommandNotFound
        | Kind::CommandNotExecutable
        | Kind::Unsupported
        | Kind::ImageRejected => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Busy | Kind::Conflict | Kind::OutOfOrder => StatusCode::CONFLICT,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout | Kind::Cancelled | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
