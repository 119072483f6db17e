//! Signals to this process. The first one ends any command in an orderly way, except that `run` passes signals on to
//! the function.

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

/// A second signal within this time repeats the same wish: `timeout(1)` and similar programs signal both the process
/// and its group.
const SAME_WISH: Duration = Duration::from_millis(300);
/// The number that a shell adds to the number of a signal to make an exit code.
const BY_SIGNAL: u8 = 128;
const SIGPIPE: u8 = 13;

/// What the sender of a signal asks for while signals are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Pass this signal on to the function.
    Forward(u8),
    /// End the function by this signal.
    End(u8),
    /// Kill the function now.
    Kill,
}

/// Whether this process has been asked to end, and by which signal.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    ctx: Context,
    signal: Arc<AtomicU8>,
    /// The channel to the receiver of wishes, if there is one.
    taker: Arc<Mutex<Option<mpsc::UnboundedSender<Wish>>>>,
}

/// Receives the wishes on which this process would act otherwise.
#[derive(Debug)]
pub(super) struct Wishes(mpsc::UnboundedReceiver<Wish>);

impl Wishes {
    /// Waits for the next wish.
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

/// The task that listens for signals.
#[derive(Debug)]
pub(super) struct Listening {
    tracker: TaskTracker,
    end: Context,
}

impl Listening {
    /// Ends the task. From then on signals have no effect, not even their default one, which is fine because the
    /// process is about to end.
    pub(super) async fn end(self) {
        self.end.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Interrupt {
    /// Replaces the default action of the signals that end or notify a program, until this process ends. Signals are
    /// acted on until [`Listening::end`].
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
                // The error only reports that the listening has ended, which is no failure.
                let _ = end.run(this.watch()).await;
            }
        });
        (this, Listening { tracker, end })
    }

    /// A context that the first signal cancels, or the third while signals are passed on.
    pub(super) fn ctx(&self) -> &Context {
        &self.ctx
    }

    /// The exit code for the signal that arrived.
    pub(super) fn code(&self) -> u8 {
        BY_SIGNAL + self.signal.load(Ordering::Acquire)
    }

    /// Ends this process as SIGPIPE would, because the reader of its output has gone.
    pub(super) fn nobody_reads(&self) {
        self.end_by(SIGPIPE);
    }

    /// Whether the reader of its output has gone.
    pub(super) fn is_unread(&self) -> bool {
        self.signal.load(Ordering::Acquire) == SIGPIPE
    }

    /// Acts on a wish for a command that has no function to pass the signal on to: the command ends.
    pub(super) fn grant(&self, wish: Wish) -> Failure {
        match wish {
            Wish::Forward(number) | Wish::End(number) => self.end_by(number),
            Wish::Kill => self.ctx.cancel(),
        }
        Failure::interrupted()
    }

    /// From now on, passes signals to the caller as wishes, for as long as the caller keeps the returned value.
    pub(super) fn pass_on(&self) -> Wishes {
        let (tx, rx) = mpsc::unbounded_channel();
        *self.taker.lock().unwrap_or_else(PoisonError::into_inner) = Some(tx);
        Wishes(rx)
    }

    /// Passes a wish to its receiver, and returns whether there is one.
    fn passed(&self, wish: Wish) -> bool {
        let taker = self.taker.lock().unwrap_or_else(PoisonError::into_inner);
        taker.as_ref().is_some_and(|taker| taker.send(wish).is_ok())
    }

    fn end_by(&self, number: u8) {
        self.note(number);
        self.ctx.cancel();
    }

    /// Records the signal that ends this process. The first one stays.
    fn note(&self, number: u8) {
        // Ignore the result: an earlier signal is kept, or there was none.
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
            let (number, is_message) = signals.next().await;
            if is_message && self.passed(Wish::Forward(number)) {
                continue;
            }
            if last.is_some_and(|at| at.elapsed() < SAME_WISH) {
                continue;
            }
            last = Some(Instant::now());
            stage = self.act(stage, number);
        }
    }

    /// Acts on a signal. Each signal is a stronger wish than the one before.
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
                // The sender insists on an immediate end. `fnctr ps` finds the containers left behind by their labels.
                let ended = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
                debug_assert!(ended.is_ok(), "a process may kill itself");
                stage
            }
        }
    }
}

/// How far the signals have escalated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Nothing,
    Passed,
    Killed,
    Ending,
}

/// The signals whose default action is replaced.
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

    /// The number of the next signal, and whether programs treat the signal as a message: a JVM prints its threads on
    /// SIGQUIT.
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
    async fn listening_ends_with_the_command_and_the_first_signal_stays() {
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
    async fn a_signal_without_a_receiver_ends_this_process() {
        let (interrupt, listening) = Interrupt::listen();
        drop(interrupt.pass_on());
        assert_eq!(interrupt.act(Stage::Nothing, 2), Stage::Ending);
        assert_eq!(interrupt.code(), BY_SIGNAL + 2);
        listening.end().await;
    }
}
