//! How far a run is, and what undoes it.

use crate::teardown::Teardown;

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The process waits behind its start gate.
    Ready,
    /// The process was started; only the exit watch shows whether it still runs.
    Running,
    /// The run was undone, or left.
    Over,
}

/// The phase of a run, and its undo list.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) phase: Phase,
    pub(super) undo: Teardown,
}

impl Stage {
    /// Whether nothing is left to undo.
    pub(super) fn is_undone(&self) -> bool {
        self.undo.is_empty()
    }
}
