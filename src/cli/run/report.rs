//! What `run` says of a function's end: its exit code, and a line for people or a value for programs.

use serde::Serialize;

use super::end::{Cut, Ended};
use crate::cli::OWN_FAILURE;
use crate::cli::output::{Print, note};
use crate::driver::Status;

/// What `timeout(1)` exits with.
const TIMED_OUT: u8 = 124;
/// 128 + SIGKILL: what a container that ran out of memory exits with everywhere.
const OUT_OF_MEMORY: u8 = 137;

/// What the last line of `run --json` says.
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

/// Milliseconds in each phase.
#[derive(Debug, Default, Serialize)]
pub(super) struct Phases {
    pub(super) validate: f64,
    pub(super) pull: f64,
    pub(super) create: f64,
    pub(super) run: f64,
    pub(super) wait: f64,
    pub(super) close: f64,
}

/// Says how it ended.
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
    // A function's own exit code speaks for itself, and so does a signal to whoever sent it, or an output that nobody reads.
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

/// What this process exits with; `interrupted` is what it would exit with for a signal.
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
