//! The one table that translates the engine's kinds of errors to the contract's.

use crate::driver::{Error, ErrorKind, ExecFailure};
use crate::engine::{self, Kind};

/// Translates an engine error for a host.
pub(crate) fn translate(error: engine::Error) -> Error {
    let command = match error.kind() {
        Kind::CommandNotFound => Some(ExecFailure::NotFound),
        Kind::CommandNotExecutable => Some(ExecFailure::NotExecutable),
        _ => None,
    };
    let error = Error::new(kind(error.kind()), error);
    match command {
        Some(why) => error.with_exec_failure(why),
        None => error,
    }
}

fn kind(kind: Kind) -> ErrorKind {
    match kind {
        Kind::InvalidPlan | Kind::CommandNotFound | Kind::CommandNotExecutable => ErrorKind::InvalidTask,
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

/// Translates an error of connecting: an invalid plan is an invalid configuration then, because no container was
/// requested yet.
pub(crate) fn not_connected(error: engine::Error) -> Error {
    match error.kind() {
        Kind::InvalidPlan => Error::new(ErrorKind::InvalidConfig, error),
        _ => translate(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Step;

    #[test]
    fn a_command_that_cannot_run_is_the_task_s_mistake_with_a_shell_s_exit_code() {
        for (kind, code) in [
            (Kind::CommandNotFound, Some(127)),
            (Kind::CommandNotExecutable, Some(126)),
            (Kind::InvalidPlan, None),
        ] {
            let error = translate(engine::Error::new(Step::Check, "c", kind, "why"));
            assert_eq!(error.kind(), ErrorKind::InvalidTask);
            assert_eq!(error.exec_failure().map(ExecFailure::exit_code), code, "{kind:?}");
        }
    }
}
