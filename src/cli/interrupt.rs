//! Signals to this process: the first ends what was begun in an orderly way, whatever command it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::output::note;
use crate::Context;

/// A second signal within this time is the same wish: terminals and `timeout(1)` send to the process and to its group.
const SAME_WISH: Duration = Duration::from_secs(1);
/// What a shell adds to the number of a signal.
const BY_SIGNAL: u8 = 128;
const SIGPIPE: u8 = 13;

/// Whether somebody wants this process to end, and why.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    ctx: Context,
    signal: Arc<AtomicU8>,
}

/// The task that takes signals.
#[derive(Debug)]
pub(super) struct Listening {
    tracker: TaskTracker,
    end: Context,
}

impl Listening {
    /// Ends it; a signal has its default effect on nothing by then, for the process is about to end.
    pub(super) async fn end(self) {
        self.end.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Interrupt {
    /// Takes SIGINT, SIGTERM and SIGHUP over from their default action, until this process ends. They are acted on until the
    /// listening ends.
    pub(super) fn listen() -> (Self, Listening) {
        let this = Self {
            ctx: Context::new(),
            signal: Arc::new(AtomicU8::new(0)),
        };
        let (tracker, end) = (TaskTracker::new(), Context::new());
        tracker.spawn({
            let (this, end) = (this.clone(), end.clone());
            async move {
                // The end of the listening is what this waits for, and no failure.
                let _ = end.run(this.watch()).await;
            }
        });
        (this, Listening { tracker, end })
    }

    /// Cancelled by the first signal.
    pub(super) fn ctx(&self) -> &Context {
        &self.ctx
    }

    /// What to exit with for the signal that came.
    pub(super) fn code(&self) -> u8 {
        BY_SIGNAL + self.signal.load(Ordering::Acquire)
    }

    /// Whoever read our output has gone, which ends a program as a signal does.
    pub(super) fn nobody_reads(&self) {
        self.end_by(SIGPIPE);
    }

    fn end_by(&self, number: u8) {
        // The first reason stays.
        if self
            .signal
            .compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.ctx.cancel();
        }
    }

    async fn watch(self) {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let [Ok(mut int), Ok(mut term), Ok(mut hup)] = kinds.map(signal) else {
            return;
        };
        let mut first: Option<Instant> = None;
        loop {
            let number = tokio::select! {
                Some(()) = int.recv() => 2,
                Some(()) = term.recv() => 15,
                Some(()) = hup.recv() => 1,
                else => return,
            };
            match first {
                None => {
                    first = Some(Instant::now());
                    self.end_by(number);
                    note("fnctr: ending what was begun; another signal after a second leaves it behind");
                }
                Some(at) if at.elapsed() < SAME_WISH => {}
                Some(_) => {
                    // What is left is found by its labels: `fnctr ps` shows it. Nothing gentler was wanted.
                    let ended =
                        nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
                    debug_assert!(ended.is_ok(), "a process may kill itself");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_listening_ends_when_the_command_has_and_the_first_reason_stays() {
        let (interrupt, listening) = Interrupt::listen();
        interrupt.nobody_reads();
        interrupt.end_by(15);
        assert_eq!(interrupt.code(), BY_SIGNAL + SIGPIPE);
        assert!(interrupt.ctx().check().is_err());
        listening.end().await;
    }
}
