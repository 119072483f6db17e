//! The gateway to the engine: the only folder that calls the client. Its verbs and its types are the driver's; it holds
//! no policy: no retries, no plans, no order of clean-up.
//!
//! A call that changes something is never raced against a context. It is bounded by [`ANSWER`], and its error says
//! whether the engine may have done it all the same ([`Failed::is_unknown`]).

mod attachment;
mod connect;
mod containers;
mod endpoint;
mod failed;
mod images;
mod samples;

use std::time::Duration;

use bollard::Docker;

pub(super) use self::attachment::{Attached, Output, Wants};
pub(super) use self::containers::Listed;
pub(super) use self::endpoint::{DEFAULT, Endpoint};
pub(super) use self::failed::{Cause, Failed};
pub(super) use self::images::{Login, Stored};
pub(super) use self::samples::{CpuTime, Sample};
#[cfg(test)]
pub(super) use self::{
    attachment::Frame,
    samples::{Disk, Memory, Throttling, Traffic},
};

/// How long the engine may take to answer a call that changes something.
const ANSWER: Duration = Duration::from_secs(120);
/// How long the client waits for answers that begin when something happens. It has no way to wait without a bound.
const WHENEVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// A connection to a Docker Engine. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    /// For calls that are answered at once.
    calls: Docker,
    /// For calls that are answered when something has happened.
    waits: Docker,
}
