//! What a freezer is asked for, and what the kernel answers.

use std::time::Duration;

/// What the kernel says about a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No process runs.
    Frozen,
    /// Frozen on request, but some process still runs.
    Freezing,
    /// It runs.
    Thawed,
}

/// How a confirmation was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// By reading alone, on the calling thread.
    Spin,
    /// After giving way to the executor, or sleeping.
    Poll,
}

/// The kernel confirmed what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// From before the request to after the confirmation.
    pub(crate) took: Duration,
    /// How it was seen.
    pub(crate) by: By,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    Frozen,
    Thawed,
}
