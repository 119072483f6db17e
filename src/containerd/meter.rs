//! When each call began and ended, for whoever measures: off, and one relaxed load per call, unless somebody asks.

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

/// What asks for them is `fnctr bench`.
#[cfg(feature = "cli")]
impl Meter {
    /// Begins to record; calls that are in flight already are not.
    pub(crate) fn start(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    /// What was recorded since the start or the last take, in the order of the replies.
    pub(crate) fn take(&self) -> Vec<Timing> {
        std::mem::take(&mut *self.timings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Meter {
    /// A call is sent; it has ended when the value is dropped, with its reply or without.
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
