//! The one table that translates what the engine answers into the contract's kinds of errors.

use std::io;

use super::daemon::{Cause, Failed};
use crate::Interrupted;
use crate::driver::{ErrSyslogUnavailable, Error, ErrorKind, ExecFailure};

/// The words of an engine whose container's log cannot be connected, by which Fn's driver recognises them, too.
const NO_LOG: &str = "failed to initialize logging driver";

/// The error of a create.
pub(super) fn not_created(failed: Failed) -> Error {
    match failed.status() {
        // The image was here when it was validated; or the container whose network was to be joined has ended.
        Some(404) if failed.says("no such image") || failed.says("no such container") => {
            Error::new(ErrorKind::Busy, failed)
        }
        // Such words come with different statuses.
        Some(_) if failed.says("storage-opt") || failed.says("storage opt") => {
            let text = format!("fs_size: {}", crate::chain(&failed));
            Error::new(ErrorKind::Unsupported, text)
        }
        _ => translate(failed),
    }
}

/// The error of a start; `syslog` is the endpoint of the container's log.
pub(super) fn not_started(failed: Failed, syslog: Option<&str>) -> Error {
    match failed.status() {
        Some(_) if failed.says(NO_LOG) => ErrSyslogUnavailable {
            url: syslog.unwrap_or_default().to_owned(),
            cause: io::Error::other(failed),
        }
        .into(),
        Some(_) if is_of_a_slot(&failed) => Error::new(ErrorKind::Busy, failed),
        Some(404) if failed.says("network") => Error::new(ErrorKind::InvalidConfig, failed),
        Some(_) if failed.says("unable to find user") => Error::new(ErrorKind::InvalidTask, failed),
        Some(400) => {
            let why = exec_failure(&failed);
            let error = Error::new(ErrorKind::InvalidTask, failed);
            match why {
                Some(why) => error.with_exec_failure(why),
                None => error,
            }
        }
        _ => translate(failed),
    }
}

/// Whether the container that holds a prepared network has ended in the meantime.
fn is_of_a_slot(failed: &Failed) -> bool {
    failed.says("cannot join network of a non running container")
        || failed.says("joined container")
        || failed.says("cannot join network namespace")
}

fn exec_failure(failed: &Failed) -> Option<ExecFailure> {
    let says = |words: &[&str]| words.iter().any(|words| failed.says(words));
    if says(&[
        "no such file or directory",
        "executable file not found",
        "not found in $path",
    ]) {
        Some(ExecFailure::NotFound)
    } else if says(&["permission denied", "exec format error", "is a directory"]) {
        Some(ExecFailure::NotExecutable)
    } else {
        None
    }
}

/// The error of any other call.
pub(super) fn translate(failed: Failed) -> Error {
    Error::new(kind(&failed.cause), failed)
}

fn kind(cause: &Cause) -> ErrorKind {
    match cause {
        Cause::Refused { status, .. } => match status {
            400 => ErrorKind::InvalidTask,
            404 => ErrorKind::NotFound,
            409 => ErrorKind::Conflict,
            501 => ErrorKind::Unsupported,
            503 => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        },
        Cause::Broken(_) | Cause::Garbled(_) | Cause::File(_) => ErrorKind::Internal,
        Cause::Unreachable(_) | Cause::Silent(_) => ErrorKind::Unavailable,
        Cause::Interrupted(Interrupted::Cancelled) => ErrorKind::Cancelled,
        Cause::Interrupted(Interrupted::DeadlineExceeded) => ErrorKind::Timeout,
    }
}

/// The error of a connect, where a refusal is about the configuration: no task was named yet.
pub(super) fn not_connected(failed: Failed) -> Error {
    match failed.status() {
        Some(400) => Error::new(ErrorKind::InvalidConfig, failed),
        _ => translate(failed),
    }
}

/// The error of a load.
pub(super) fn not_loaded(failed: Failed) -> Error {
    match failed.cause {
        Cause::Broken(_)
        | Cause::Refused {
            status: 400..=499, ..
        } => Error::new(ErrorKind::ImageRejected, failed),
        Cause::File(_) => Error::new(ErrorKind::InvalidConfig, failed),
        _ => translate(failed),
    }
}

/// A task that was asked for its streams by an attempt that did not get them cannot be asked again.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot create container {id:?} again: the attempt that failed has used up its streams, so it takes a new task"
)]
pub(super) struct Spent {
    pub(super) id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_that_is_refused_says_whose_fault_it_is() {
        for (status, message, kind) in [
            (404, "No such image: x:latest", ErrorKind::Busy),
            (404, "No such container: 0123", ErrorKind::Busy),
            (
                409,
                "Conflict. The container name \"/c1\" is already in use by container \"0123\".",
                ErrorKind::Conflict,
            ),
            (400, "Minimum memory limit allowed is 6MB", ErrorKind::InvalidTask),
            (
                500,
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
                ErrorKind::Unsupported,
            ),
            (500, "oh", ErrorKind::Internal),
            (503, "starting", ErrorKind::Unavailable),
        ] {
            let error = not_created(Failed::refused("create container", status, message));
            assert_eq!(error.kind(), kind, "{message}");
            assert!(error.report().contains(message), "{error:?}");
        }
        let quota = not_created(Failed::refused("create", 500, "--storage-opt is supported only"));
        assert!(quota.report().starts_with("fs_size: "), "{quota:?}");
    }

    #[test]
    fn a_start_that_is_refused_says_what_is_missing() {
        let start = |status, message| {
            not_started(
                Failed::refused("start container", status, message),
                Some("tcp://logs"),
            )
        };
        let words = "failed to initialize logging driver: dial tcp 127.0.0.1:1: connect: connection refused";
        let error = start(500, words);
        assert_eq!(error.kind(), ErrorKind::SyslogUnavailable);
        assert_eq!(
            error.downcast_ref::<ErrSyslogUnavailable>().unwrap().url,
            "tcp://logs"
        );
        assert!(error.report().contains("connection refused"), "{error:?}");
        for (message, why) in [
            (
                "exec: \"/x\": stat /x: no such file or directory: unknown",
                ExecFailure::NotFound,
            ),
            (
                "exec: \"x\": executable file not found in $PATH",
                ExecFailure::NotFound,
            ),
            (
                "exec: \"/etc/passwd\": permission denied",
                ExecFailure::NotExecutable,
            ),
        ] {
            let error = start(400, message);
            assert_eq!(
                (error.kind(), error.exec_failure()),
                (ErrorKind::InvalidTask, Some(why)),
                "{message}"
            );
        }
        let slot = start(409, "cannot join network of a non running container: 0123");
        assert_eq!(slot.kind(), ErrorKind::Busy);
        assert_eq!(
            start(404, "network fnnet not found").kind(),
            ErrorKind::InvalidConfig
        );
        assert_eq!(start(404, "No such container: c1").kind(), ErrorKind::NotFound);
    }
}
