//! Reports the end of a function: the exit code of `run`, and a line for people or a JSON value for programs.

use serde::Serialize;

use super::end::{Cut, Ended};
use crate::cli::OWN_FAILURE;
use crate::cli::output::{Print, note};
use crate::driver::Status;

/// The exit code of `timeout(1)` after a timeout.
const TIMED_OUT: u8 = 124;
/// 128 + SIGKILL, the usual exit code of a container that ran out of memory.
const OUT_OF_MEMORY: u8 = 137;

/// The last line of `run --json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    id: &'a str,
    image: &'a str,
    status: &'static str,
    exit_code: Option<u32>,
    error: Option<String>,
    oom: bool,
    ms: Phases,
}

/// The milliseconds that each phase took.
#[derive(Debug, Default, Serialize)]
pub(super) struct Phases {
    pub(super) validate: f64,
    pub(super) pull: f64,
    pub(super) create: f64,
    pub(super) run: f64,
    pub(super) wait: f64,
    pub(super) close: f64,
}

/// Prints how the function ended.
pub(super) fn report(id: &str, image: &str, ended: &Ended, ms: Phases, print: &Print) {
    let Ended { result, cut } = ended;
    let (status, error) = match cut {
        Some(cut) => (cut.status(), Some(cut.to_string())),
        None => (result.status(), result.error().map(|error| crate::chain(error))),
    };
    if print.is_json() {
        print.json(&Report {
            id,
            image,
            status: status.as_str(),
            exit_code: result.exit_code(),
            error,
            oom: result.oom().is_some(),
            ms,
        });
        return;
    }
    // No message is needed for the function's own exit code, for a signal, whose sender expects the end, or for output
    // that is no longer read.
    let speaks = match status {
        Status::Error => result.exit_code().is_some_and(|code| code != 0),
        Status::Cancelled => true,
        _ => matches!(cut, Some(Cut::Signal(_))),
    };
    if let Some(error) = error
        && !speaks
    {
        note(&format!("fnctr: {id}: {error}"));
    }
}

/// The exit code of this process. `interrupted` is its exit code after a signal.
pub(super) fn exit_code(ended: &Ended, interrupted: u8) -> u8 {
    let Ended { result, cut } = ended;
    let own = |code: u32| u8::try_from(code).unwrap_or(u8::MAX);
    match (cut, result.status()) {
        (Some(Cut::Timeout(_)), _) | (None, Status::Timeout) => TIMED_OUT,
        (_, Status::Cancelled) => interrupted,
        _ if result.oom().is_some() => OUT_OF_MEMORY,
        (Some(Cut::Signal(_)), _) => result.exit_code().map_or(interrupted, own),
        (_, Status::Success | Status::Running) => 0,
        _ => result
            .exit_code()
            .filter(|code| *code != 0)
            .map_or(OWN_FAILURE, own),
    }
}
