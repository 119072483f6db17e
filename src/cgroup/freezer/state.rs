//! The requests to a freezer, and the kernel's answers.

use std::time::Duration;

/// The state of a container that the kernel reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No process runs.
    Frozen,
    /// A freeze was requested, but some process still runs.
    Freezing,
    /// The container runs.
    Thawed,
}

/// How a confirmation was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// By reading alone, on the calling thread.
    Spin,
    /// After yielding to the executor, or sleeping.
    Poll,
}

/// The kernel's confirmation of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// The time from before the request to after the confirmation.
    pub(crate) took: Duration,
    /// How the confirmation was noticed.
    pub(crate) by: By,
}

/// The state that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    Frozen,
    Thawed,
}
