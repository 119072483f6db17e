//! Records when each call began and ended. Off by default, when it costs one relaxed load per call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// Its name, such as `Tasks/Create`.
    pub(crate) call: &'static str,
    /// When it was sent.
    pub(crate) began: Instant,
    /// When its reply was there.
    pub(crate) ended: Instant,
}

/// The calls of one connection.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    on: AtomicBool,
    timings: Mutex<Vec<Timing>>,
}

/// For `fnctr bench`, the only user of the timings.
#[cfg(feature = "cli")]
impl Meter {
    /// Starts to record; excludes calls that are already in flight.
    pub(crate) fn start(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    /// The calls recorded since the start or the last take, in the order of the replies.
    pub(crate) fn take(&self) -> Vec<Timing> {
        std::mem::take(&mut *self.timings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Meter {
    /// Records that a call is sent. The call ends when the returned value is dropped, with or without a reply.
    pub(super) fn begin(&self, call: &'static str) -> Option<Running<'_>> {
        self.on.load(Ordering::Relaxed).then(|| Running {
            meter: self,
            call,
            began: Instant::now(),
        })
    }
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Running<'a> {
    meter: &'a Meter,
    call: &'static str,
    began: Instant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let timing = Timing {
            call: self.call,
            began: self.began,
            ended: Instant::now(),
        };
        self.meter
            .timings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(timing);
    }
}
