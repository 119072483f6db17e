//! How a run ends: one pure function from the known facts about the exit to the result that the host receives.
//!
//! The rule is subtle, so it is written once, and every driver uses it. It reads no clock, no context and no kernel
//! file: the caller passes those facts.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{ByteSize, Interrupted};

/// The exit code that an init reports for a process killed by SIGKILL: 128 + 9.
const EXIT_SIGKILL: u32 = 137;

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The function has not ended yet.
    Running,
    /// The function ended by itself, with exit code 0.
    Success,
    /// The function failed.
    Error,
    /// The deadline passed.
    Timeout,
    /// The function was killed.
    Killed,
    /// The caller cancelled.
    Cancelled,
}

impl Status {
    /// The contract's word for the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Killed => "killed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An OOM kill that the kernel recorded in the container; it is never guessed from an exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfMemory {
    /// The container's own limit. `None` if it had none, or if the limit can no longer be determined.
    pub limit: Option<ByteSize>,
    /// Whose limit was hit.
    pub whose: Whose,
}

/// Whose memory limit was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Whose {
    /// The container's own.
    Own,
    /// A limit that the container has set itself, on a cgroup inside it.
    Inside,
    /// The limit of a cgroup above the container.
    Above {
        /// The directory of that cgroup.
        cgroup: PathBuf,
        /// Its limit, if it can be determined.
        limit: Option<ByteSize>,
    },
    /// The machine had no memory left.
    Machine,
    /// The kernel's record was removed with the container's cgroup before it was read, but another source reported the
    /// kill.
    Unknown,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory: ")?;
        match (&self.whose, self.limit) {
            (Whose::Own, Some(limit)) => write!(f, "the container's own limit of {limit} was hit"),
            (Whose::Own, None) => f.write_str("the container's own limit was hit"),
            (Whose::Inside, _) => f.write_str("a limit that the container set on a part of itself was hit"),
            (Whose::Above { cgroup, limit: None }, _) => {
                write!(
                    f,
                    "the limit of cgroup {}, above the container, was hit",
                    cgroup.display()
                )
            }
            (
                Whose::Above {
                    cgroup,
                    limit: Some(limit),
                },
                _,
            ) => write!(
                f,
                "the limit of {limit} of cgroup {}, above the container, was hit",
                cgroup.display()
            ),
            (Whose::Machine, Some(limit)) => write!(
                f,
                "the machine had none left, and the container's own limit of {limit} was not hit"
            ),
            (Whose::Machine, None) => {
                f.write_str("the machine had none left, and the container has no limit of its own")
            }
            (Whose::Unknown, Some(limit)) => write!(
                f,
                "it is not known whose limit was hit; the container's own is {limit}"
            ),
            (Whose::Unknown, None) => f.write_str("it is not known whose limit was hit"),
        }
    }
}

/// Why a run did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The kernel killed the function for lack of memory.
    #[error("{0}")]
    OutOfMemory(OutOfMemory),
    /// The function ended with this exit code, which is not 0.
    #[error("container exit code {0}")]
    ExitCode(u32),
    /// The function was killed by SIGKILL, and not by the kernel for lack of memory.
    #[error("killed by signal 9, not by memory")]
    Signalled,
    /// The function was killed by SIGKILL, and the kernel's count of OOM kills was gone before it could be read.
    #[error("killed by signal 9; it is not known whether memory ran out")]
    Killed,
    /// The function has ended, and its exit code is lost: the engine was restarted in that moment, or its helper was
    /// killed.
    #[error("the container ended, and its exit code is lost")]
    Lost,
    /// The context ended before the function did, or before its success was final.
    #[error(transparent)]
    Interrupted(Interrupted),
    /// The input or output of the function could not be passed on.
    #[error(transparent)]
    Streams(StreamFailed),
    /// The driver was closed while the function ran or its output was being delivered; the later course is unknown.
    #[error("the driver was closed before the function had ended and all its output was delivered")]
    DriverClosed,
}

/// One of the three standard streams of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StandardStream {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl fmt::Display for StandardStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "standard input",
            Self::Output => "standard output",
            Self::Error => "standard error",
        })
    }
}

/// A stream that was not carried to its end. If the host's reader or writer failed, the source is its own
/// [`io::Error`], with everything inside it.
#[derive(Debug, Clone)]
pub struct StreamFailed {
    stream: Option<StandardStream>,
    error: Arc<io::Error>,
}

impl StreamFailed {
    /// Creates the error; `stream` is `None` if it is unknown which stream failed.
    #[must_use]
    pub fn new(stream: Option<StandardStream>, error: Arc<io::Error>) -> Self {
        Self { stream, error }
    }

    /// Which stream failed; `None` if that is unknown.
    #[must_use]
    pub fn stream(&self) -> Option<StandardStream> {
        self.stream
    }

    /// The error of the reader or the writer.
    #[must_use]
    pub fn io_error(&self) -> &io::Error {
        &self.error
    }
}

impl fmt::Display for StreamFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stream {
            Some(stream) => write!(f, "the container's {stream} failed"),
            None => f.write_str("the container's streams failed"),
        }
    }
}

impl StdError for StreamFailed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.error.as_ref())
    }
}

impl RunError {
    /// The HTTP-like code of the failure.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::OutOfMemory(_)
            | Self::ExitCode(_)
            | Self::Signalled
            | Self::Killed
            | Self::Lost
            | Self::Streams(_) => 502,
            Self::DriverClosed => 503,
            Self::Interrupted(Interrupted::DeadlineExceeded) => 504,
            Self::Interrupted(Interrupted::Cancelled) => 499,
        }
    }
}

/// The known facts about a container when its result is determined.
#[derive(Debug, Clone, Default)]
pub struct ExitFacts {
    /// The exit code, 128 + n for a death by signal n. `None` while the function runs, or if the code is lost.
    pub exit_code: Option<u32>,
    /// Whether the function has ended with an unknown exit code.
    pub lost: bool,
    /// An OOM kill, if the kernel recorded one.
    pub oom: Option<OutOfMemory>,
    /// Whether the kernel's record of OOM kills could not be read.
    pub oom_unknown: bool,
    /// The error that stopped the streams, if there was one.
    pub stream_error: Option<StreamFailed>,
    /// Whether the driver was closed before the exit, or the rest of the output, was known.
    pub driver_closed: bool,
}

impl ExitFacts {
    /// The facts of an exit with this code and nothing else.
    #[must_use]
    pub fn exited(code: u32) -> Self {
        Self {
            exit_code: Some(code),
            ..Self::default()
        }
    }
}

/// The final state of a task.
///
/// Fn's original is an interface, because every Go driver has its own. Here it is plain data: there is only one rule
/// for it ([`outcome`]), so a second implementation could only be wrong.
#[derive(Debug, Clone)]
#[must_use]
pub struct RunResult {
    status: Status,
    error: Option<RunError>,
    exit_code: Option<u32>,
    oom: Option<OutOfMemory>,
}

impl RunResult {
    /// The state of the task; never [`Status::Running`] in the result of a wait.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Why the run did not succeed; `None` on success.
    #[must_use]
    pub fn error(&self) -> Option<&RunError> {
        self.error.as_ref()
    }

    /// The exit code, if the process has ended.
    #[must_use]
    pub fn exit_code(&self) -> Option<u32> {
        self.exit_code
    }

    /// The OOM kill that the kernel recorded, if there was one.
    #[must_use]
    pub fn oom(&self) -> Option<&OutOfMemory> {
        self.oom.as_ref()
    }
}

/// Decides how a run ends, by this table, in which the first match wins:
///
/// | What happened | Status |
/// |---|---|
/// | the kernel recorded an OOM kill | killed |
/// | exit code 137 without one | killed, and not by memory |
/// | any other exit code but 0: it proves that the function ended, and wins over an interruption | error |
/// | exit code 0, or none yet, and the context is interrupted | timeout or cancelled, by reason |
/// | it ended and its exit code is lost | error |
/// | the driver was closed before the end, or before all output was delivered | error |
/// | the streams failed | error |
/// | exit code 0 | success |
/// | no exit code | running |
pub fn outcome(exit: &ExitFacts, interrupted: Option<Interrupted>) -> RunResult {
    let (status, error) = decide(exit, interrupted);
    RunResult {
        status,
        error,
        exit_code: exit.exit_code,
        oom: exit.oom.clone(),
    }
}

fn decide(exit: &ExitFacts, interrupted: Option<Interrupted>) -> (Status, Option<RunError>) {
    if let Some(oom) = &exit.oom {
        return (Status::Killed, Some(RunError::OutOfMemory(oom.clone())));
    }
    match exit.exit_code {
        Some(EXIT_SIGKILL) if exit.oom_unknown => return (Status::Killed, Some(RunError::Killed)),
        Some(EXIT_SIGKILL) => return (Status::Killed, Some(RunError::Signalled)),
        Some(code) if code != 0 => return (Status::Error, Some(RunError::ExitCode(code))),
        Some(_) | None => {}
    }
    if let Some(why) = interrupted {
        let status = match why {
            Interrupted::DeadlineExceeded => Status::Timeout,
            Interrupted::Cancelled => Status::Cancelled,
        };
        return (status, Some(RunError::Interrupted(why)));
    }
    if exit.lost {
        return (Status::Error, Some(RunError::Lost));
    }
    if exit.driver_closed {
        return (Status::Error, Some(RunError::DriverClosed));
    }
    if let Some(error) = &exit.stream_error {
        return (Status::Error, Some(RunError::Streams(error.clone())));
    }
    match exit.exit_code {
        Some(_) => (Status::Success, None),
        None => (Status::Running, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    const OOM: Option<OutOfMemory> = Some(OutOfMemory {
        limit: Some(ByteSize(64 << 20)),
        whose: Whose::Own,
    });
    const LATE: Option<Interrupted> = Some(Interrupted::DeadlineExceeded);
    const CANCELLED: Option<Interrupted> = Some(Interrupted::Cancelled);

    #[track_caller]
    fn assert_ends(exit: ExitFacts, why: Option<Interrupted>, status: Status, error: &str) {
        let result = outcome(&exit, why);
        assert_eq!(result.status(), status, "{exit:?} {why:?}");
        let said = result.error().map(ToString::to_string).unwrap_or_default();
        assert_eq!(said, error, "{exit:?} {why:?}");
    }

    #[test]
    fn an_oom_kill_is_killed_whatever_the_code_and_the_context() {
        for code in [None, Some(0), Some(1), Some(137)] {
            for why in [None, LATE, CANCELLED] {
                let facts = ExitFacts {
                    exit_code: code,
                    oom: OOM,
                    ..ExitFacts::default()
                };
                let said = "out of memory: the container's own limit of 64m was hit";
                assert_ends(facts, why, Status::Killed, said);
            }
        }
    }

    #[test]
    fn the_owner_of_the_limit_that_was_hit_is_named_and_no_limit_is_made_up() {
        let limit = Some(ByteSize(64 << 20));
        let above = |limit| Whose::Above {
            cgroup: "/sys/fs/cgroup/fnctr".into(),
            limit,
        };
        for (whose, limit, said) in [
            (Whose::Own, limit, "the container's own limit of 64m was hit"),
            (Whose::Own, None, "the container's own limit was hit"),
            (
                Whose::Inside,
                limit,
                "a limit that the container set on a part of itself was hit",
            ),
            (
                above(Some(ByteSize(512 << 20))),
                limit,
                "the limit of 512m of cgroup /sys/fs/cgroup/fnctr, above the container, was hit",
            ),
            (
                above(None),
                None,
                "the limit of cgroup /sys/fs/cgroup/fnctr, above the container, was hit",
            ),
            (
                Whose::Machine,
                limit,
                "the machine had none left, and the container's own limit of 64m was not hit",
            ),
            (
                Whose::Machine,
                None,
                "the machine had none left, and the container has no limit of its own",
            ),
            (
                Whose::Unknown,
                limit,
                "it is not known whose limit was hit; the container's own is 64m",
            ),
            (Whose::Unknown, None, "it is not known whose limit was hit"),
        ] {
            let facts = ExitFacts {
                oom: Some(OutOfMemory { limit, whose }),
                ..ExitFacts::exited(137)
            };
            assert_ends(facts, None, Status::Killed, &format!("out of memory: {said}"));
        }
    }

    #[test]
    fn exit_code_0_is_success_when_nothing_interrupts() {
        assert_ends(ExitFacts::exited(0), None, Status::Success, "");
    }

    #[test]
    fn exit_code_0_does_not_undo_an_interruption() {
        assert_ends(ExitFacts::exited(0), LATE, Status::Timeout, "deadline exceeded");
        assert_ends(ExitFacts::exited(0), CANCELLED, Status::Cancelled, "cancelled");
    }

    #[test]
    fn a_failed_exit_wins_over_an_interruption() {
        for why in [None, LATE, CANCELLED] {
            assert_ends(ExitFacts::exited(7), why, Status::Error, "container exit code 7");
        }
    }

    #[test]
    fn a_sigkill_without_an_oom_is_not_blamed_on_memory() {
        assert_ends(
            ExitFacts::exited(137),
            None,
            Status::Killed,
            "killed by signal 9, not by memory",
        );
    }

    #[test]
    fn a_sigkill_is_not_cleared_of_memory_without_the_kernels_record() {
        let facts = ExitFacts {
            oom_unknown: true,
            ..ExitFacts::exited(137)
        };
        let said = "killed by signal 9; it is not known whether memory ran out";
        assert_ends(facts, None, Status::Killed, said);
        let facts = ExitFacts {
            oom_unknown: true,
            ..ExitFacts::exited(0)
        };
        assert_ends(facts, None, Status::Success, "");
    }

    #[test]
    fn what_still_runs_ends_by_the_reason_of_the_interruption() {
        assert_ends(ExitFacts::default(), LATE, Status::Timeout, "deadline exceeded");
        assert_ends(ExitFacts::default(), CANCELLED, Status::Cancelled, "cancelled");
        assert_ends(ExitFacts::default(), None, Status::Running, "");
    }

    #[test]
    fn an_end_without_an_exit_code_is_neither_success_nor_a_made_up_code() {
        let lost = || ExitFacts {
            lost: true,
            ..ExitFacts::default()
        };
        assert_ends(
            lost(),
            None,
            Status::Error,
            "the container ended, and its exit code is lost",
        );
        assert_ends(lost(), LATE, Status::Timeout, "deadline exceeded");
    }

    #[test]
    fn failed_streams_turn_success_into_an_error() {
        let facts = ExitFacts {
            stream_error: Some(failed_output("broken pipe")),
            ..ExitFacts::exited(0)
        };
        assert_ends(
            facts.clone(),
            None,
            Status::Error,
            "the container's standard output failed",
        );
        let result = outcome(&facts, None);
        let sentence = result.error().map(|error| crate::driver::report(error));
        assert_eq!(
            sentence.unwrap(),
            "the container's standard output failed: broken pipe"
        );
        assert_ends(facts, CANCELLED, Status::Cancelled, "cancelled");
    }

    #[test]
    fn the_writers_own_error_is_found_in_the_chain_of_sources() {
        let facts = ExitFacts {
            stream_error: Some(failed_output(crate::Interrupted::Cancelled)),
            ..ExitFacts::exited(0)
        };
        let result = outcome(&facts, None);
        let source = result.error().unwrap().source().unwrap();
        let found = source.downcast_ref::<io::Error>().unwrap().get_ref().unwrap();
        assert_eq!(found.downcast_ref(), Some(&Interrupted::Cancelled));
        let Some(RunError::Streams(failed)) = result.error() else {
            panic!("{result:?}")
        };
        assert_eq!(failed.stream(), Some(StandardStream::Output));
        assert_eq!(failed.io_error().to_string(), "cancelled");
    }

    #[test]
    fn the_drivers_end_is_not_the_functions_and_a_known_end_wins_over_it() {
        let closed = |facts| ExitFacts {
            driver_closed: true,
            ..facts
        };
        let said = "the driver was closed before the function had ended and all its output was delivered";
        assert_ends(closed(ExitFacts::default()), None, Status::Error, said);
        assert_ends(closed(ExitFacts::exited(0)), None, Status::Error, said);
        assert_ends(
            closed(ExitFacts::exited(7)),
            None,
            Status::Error,
            "container exit code 7",
        );
        assert_ends(
            closed(ExitFacts::default()),
            LATE,
            Status::Timeout,
            "deadline exceeded",
        );
        assert_eq!(RunError::DriverClosed.code(), 503);
    }

    fn failed_output(why: impl Into<Box<dyn StdError + Send + Sync>>) -> StreamFailed {
        StreamFailed::new(Some(StandardStream::Output), Arc::new(io::Error::other(why)))
    }

    #[test]
    fn failures_of_the_function_are_a_bad_gateway() {
        let code = |facts| outcome(&facts, None).error().map(RunError::code);
        assert_eq!(code(ExitFacts::exited(1)), Some(502));
        assert_eq!(code(ExitFacts::exited(137)), Some(502));
        assert_eq!(code(ExitFacts::exited(0)), None);
        assert_eq!(RunError::Interrupted(Interrupted::DeadlineExceeded).code(), 504);
    }

    proptest! {
        #[test]
        fn there_is_an_error_exactly_when_it_did_not_succeed(
            code in option::of(prop_oneof![Just(0u32), Just(137), 0u32..256]),
            oom: bool,
            streams: bool,
            why in option::of(prop_oneof![Just(Interrupted::Cancelled), Just(Interrupted::DeadlineExceeded)]),
        ) {
            let facts = ExitFacts {
                exit_code: code,
                oom: OOM.filter(|_| oom),
                stream_error: streams.then(|| failed_output("broken pipe")),
                ..ExitFacts::default()
            };
            let result = outcome(&facts, why);
            let fine = matches!(result.status(), Status::Success | Status::Running);
            prop_assert_eq!(result.error().is_none(), fine);
            prop_assert_eq!(result.exit_code(), code);
            prop_assert_eq!(result.oom().is_some(), oom);
            if result.status() == Status::Success {
                prop_assert!(code == Some(0) && !oom && !streams && why.is_none());
            }
            if result.status() == Status::Running {
                prop_assert!(code.is_none() && why.is_none());
            }
        }
    }
}
