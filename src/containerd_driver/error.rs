//! The engine's kinds in the contract's words: the one table.

use crate::driver::{Error, ErrorKind};
use crate::engine::{self, Kind};

/// What an engine error is for a host.
pub(crate) fn translate(error: engine::Error) -> Error {
    Error::new(kind(error.kind()), error)
}

fn kind(kind: Kind) -> ErrorKind {
    match kind {
        Kind::InvalidPlan => ErrorKind::InvalidTask,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::ImageRejected => ErrorKind::ImageRejected,
        Kind::Busy => ErrorKind::Busy,
        Kind::Conflict => ErrorKind::Conflict,
        Kind::NotFound => ErrorKind::NotFound,
        Kind::OutOfOrder => ErrorKind::OutOfOrder,
        Kind::Timeout => ErrorKind::Timeout,
        Kind::Cancelled => ErrorKind::Cancelled,
        Kind::Unavailable => ErrorKind::Unavailable,
        Kind::Internal => ErrorKind::Internal,
    }
}
