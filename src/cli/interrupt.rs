//! Signals to this process: the first ends what was begun in an orderly way, whatever command it is; `run` passes them on.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::failure::Failure;
use super::output::note;
use crate::Context;

/// A second signal within this time is the same wish: `timeout(1)` and its like send to the process and to its group.
const SAME_WISH: Duration = Duration::from_millis(300);
/// What a shell adds to the number of a signal.
const BY_SIGNAL: u8 = 128;
const SIGPIPE: u8 = 13;

/// What somebody wants by a signal while signals are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// That the function learns of this one.
    Told(u8),
    /// That it ends, by this one.
    End(u8),
    /// That it ends now.
    Kill,
}

/// Whether somebody wants this process to end, and why.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    ctx: Context,
    signal: Arc<AtomicU8>,
    /// Who takes the wishes, for as long as somebody does.
    taker: Arc<Mutex<Option<mpsc::UnboundedSender<Wish>>>>,
}

/// Takes the wishes in place of this process.
#[derive(Debug)]
pub(super) struct Wishes(mpsc::UnboundedReceiver<Wish>);

impl Wishes {
    /// The next one.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn next(&mut self) -> Wish {
        match self.0.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        }
    }
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
    /// Takes the signals that end or tell a program over from their default action, until this process ends. They are acted on
    /// until the listening ends.
    pub(super) fn listen() -> (Self, Listening) {
        let this = Self {
            ctx: Context::new(),
            signal: Arc::new(AtomicU8::new(0)),
            taker: Arc::default(),
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

    /// Cancelled by the first signal, or by the third while they are passed on.
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

    /// Does what a wish asks of a command that has no function to pass it on to: it ends.
    pub(super) fn grant(&self, wish: Wish) -> Failure {
        match wish {
            Wish::Told(number) | Wish::End(number) => self.end_by(number),
            Wish::Kill => self.ctx.cancel(),
        }
        Failure::interrupted()
    }

    /// From now on signals are wishes for the caller to grant, for as long as it holds what is returned.
    pub(super) fn pass_on(&self) -> Wishes {
        let (tx, rx) = mpsc::unbounded_channel();
        *self.taker.lock().unwrap_or_else(PoisonError::into_inner) = Some(tx);
        Wishes(rx)
    }

    /// Whether somebody takes it.
    fn passed(&self, wish: Wish) -> bool {
        let taker = self.taker.lock().unwrap_or_else(PoisonError::into_inner);
        taker.as_ref().is_some_and(|taker| taker.send(wish).is_ok())
    }

    fn end_by(&self, number: u8) {
        self.note(number);
        self.ctx.cancel();
    }

    /// The first reason stays.
    fn note(&self, number: u8) {
        // What it was before does not matter: it is kept, or there was none.
        let _ = self
            .signal
            .compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire);
    }

    async fn watch(self) {
        let Some(mut signals) = Signals::listen() else {
            return;
        };
        let mut stage = Stage::default();
        let mut last: Option<Instant> = None;
        loop {
            let (number, tells) = signals.next().await;
            if tells && self.passed(Wish::Told(number)) {
                continue;
            }
            if last.is_some_and(|at| at.elapsed() < SAME_WISH) {
                continue;
            }
            last = Some(Instant::now());
            stage = self.act(stage, number);
        }
    }

    /// Each signal is a stronger wish than the one before.
    fn act(&self, stage: Stage, number: u8) -> Stage {
        match stage {
            Stage::Nothing if self.passed(Wish::End(number)) => {
                self.note(number);
                Stage::Passed
            }
            Stage::Passed if self.passed(Wish::Kill) => Stage::Killed,
            Stage::Nothing | Stage::Passed | Stage::Killed => {
                self.end_by(number);
                note("fnctr: ending what was begun; another signal leaves it behind");
                Stage::Ending
            }
            Stage::Ending => {
                // What is left is found by its labels: `fnctr ps` shows it. Nothing gentler was wanted.
                let ended = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
                debug_assert!(ended.is_ok(), "a process may kill itself");
                stage
            }
        }
    }
}

/// How far the wish to end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Nothing,
    Passed,
    Killed,
    Ending,
}

/// The signals that are taken over.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    quit: Signal,
    user1: Signal,
    user2: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Option<Self> {
        let listen = |kind| signal(kind).ok();
        Some(Self {
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The next one's number, and whether programs take it for a message: a JVM prints its threads at SIGQUIT.
    async fn next(&mut self) -> (u8, bool) {
        tokio::select! {
            Some(()) = self.hangup.recv() => (1, false),
            Some(()) = self.interrupt.recv() => (2, false),
            Some(()) = self.quit.recv() => (3, true),
            Some(()) = self.user1.recv() => (10, true),
            Some(()) = self.user2.recv() => (12, true),
            Some(()) = self.terminate.recv() => (15, false),
            else => std::future::pending().await,
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

    #[tokio::test]
    async fn while_signals_are_passed_on_the_first_asks_the_second_kills_and_the_third_ends_this() {
        let (interrupt, listening) = Interrupt::listen();
        let mut wishes = interrupt.pass_on();
        let stage = interrupt.act(Stage::Nothing, 15);
        assert_eq!((stage, wishes.next().await), (Stage::Passed, Wish::End(15)));
        let stage = interrupt.act(stage, 2);
        assert_eq!((stage, wishes.next().await), (Stage::Killed, Wish::Kill));
        assert!(interrupt.ctx().check().is_ok());
        assert_eq!(interrupt.act(stage, 2), Stage::Ending);
        assert!(interrupt.ctx().check().is_err());
        assert_eq!(interrupt.code(), BY_SIGNAL + 15);
        listening.end().await;
    }

    #[tokio::test]
    async fn a_signal_that_nobody_takes_any_more_ends_this() {
        let (interrupt, listening) = Interrupt::listen();
        drop(interrupt.pass_on());
        assert_eq!(interrupt.act(Stage::Nothing, 2), Stage::Ending);
        assert_eq!(interrupt.code(), BY_SIGNAL + 2);
        listening.end().await;
    }
}
