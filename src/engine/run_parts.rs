//! What a run is made of, as data.

use std::sync::Arc;

use super::network::NetworkHistory;
use super::stage::Phase;
use super::wait::Ended;
use crate::cgroup::{Above, Paths};
use crate::stdio::{Pumps, WeakStreamsLock};

/// The facts about a run when it is made, or adopted.
#[derive(Debug)]
pub(super) struct RunParts {
    /// `None` if the process has ended: its pid may belong to another process by now.
    pub(super) pid: Option<u32>,
    /// How the process ended, if it has.
    pub(super) ended: Option<Ended>,
    pub(super) paths: Option<Paths>,
    /// How often the limits above it had been hit before its first process ran, if that was read.
    pub(super) above: Option<Above>,
    /// The memory limit in bytes, if there is one.
    pub(super) memory: Option<u64>,
    pub(super) pumps: Arc<Pumps>,
    pub(super) phase: Phase,
    /// Whether the run was made just now, so that none of its events was missed.
    pub(super) from_birth: bool,
    /// The right to hold its streams, while this process copies them.
    pub(super) hold: WeakStreamsLock,
    /// Whether the streams of its first process are one terminal.
    pub(super) terminal: bool,
    /// Whether this process records the event of its end. That of a kept container is recorded with its end.
    pub(super) tells_end: bool,
    /// Whether it stays as it is when its last handle is dropped. Otherwise it has an owner, who removes it.
    pub(super) stays: bool,
    pub(super) network: NetworkHistory,
}
