//! Ends a function before it ends by itself: signals to this process are passed on, a time limit first sends SIGTERM,
//! and a function that does not end in time is killed.

use std::fmt;
use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::Context;
use crate::cli::Invocation;
use crate::cli::interrupt::{Wish, Wishes};
use crate::cli::moment::reached;
use crate::cli::output::note;
use crate::containerd_driver::ContainerdCookie;
use crate::driver::{RunResult, Status, WaitResult};

/// How long to wait for the output of a killed function to be read. A reader that has stopped reading must not delay
/// the end.
const DELIVERY: Duration = Duration::from_secs(2);
/// How long after a signal the user at a terminal waits before a message explains the delay.
const SILENCE: Duration = Duration::from_secs(1);
const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

/// The reason why a function was ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The function reached this time limit.
    Timeout(Duration),
    /// This process received a signal.
    Signal(u8),
}

impl Cut {
    pub(super) fn status(self) -> Status {
        match self {
            Self::Timeout(_) => Status::Timeout,
            Self::Signal(_) => Status::Cancelled,
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(limit) => write!(f, "it had not ended after {limit:?}, the --timeout"),
            Self::Signal(number) => write!(f, "it was ended by signal {number}"),
        }
    }
}

/// The result of a function, and why it was ended early, if it was.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) result: RunResult,
    pub(super) cut: Option<Cut>,
}

/// The function to wait for, and its time limits.
pub(super) struct Wait<'a> {
    pub(super) invocation: Invocation<'a>,
    pub(super) cookie: &'a ContainerdCookie,
    pub(super) waiting: &'a dyn WaitResult,
    /// How long the function may run; `None` is without limit.
    pub(super) limit: Option<Duration>,
    /// How long the function may take to end after a signal.
    pub(super) grace: Duration,
}

impl Wait<'_> {
    /// Waits for the end of the function. At the time limit, or when this process receives a signal, the function
    /// is sent a signal, and SIGKILL after the grace period.
    pub(super) async fn over(self, mut wishes: Wishes) -> Ended {
        let Self {
            invocation,
            cookie,
            waiting,
            limit,
            grace,
        } = self;
        let began = Instant::now();
        let ctx = &invocation.interrupt.ctx().child();
        let mut waited = std::pin::pin!(waiting.wait(ctx));
        let mut cut = None;
        let mut over = limit.map(|limit| began + limit);
        let (mut kill, mut leave, mut told) = (None, None, None);
        loop {
            tokio::select! {
                biased;
                result = &mut waited => return Ended { result, cut },
                wish = wishes.next() => match wish {
                    Wish::Forward(number) => signal(ctx, cookie, number.into()).await,
                    Wish::End(number) => {
                        cut.get_or_insert(Cut::Signal(number));
                        signal(ctx, cookie, number.into()).await;
                        kill.get_or_insert_with(|| Instant::now() + grace);
                        told = Some(Instant::now() + SILENCE);
                    }
                    Wish::Kill => {
                        told = None;
                        signal(ctx, cookie, SIGKILL).await;
                        leave = Some(Instant::now() + DELIVERY);
                    }
                },
                () = reached(over) => {
                    over = None;
                    cut = limit.map(Cut::Timeout);
                    signal(ctx, cookie, SIGTERM).await;
                    kill.get_or_insert_with(|| Instant::now() + grace);
                }
                () = reached(told) => {
                    told = None;
                    if std::io::stderr().is_terminal() {
                        note(&format!(
                            "fnctr: it has not ended yet; it is killed {grace:?} after the signal, or at the next one"
                        ));
                    }
                }
                () = reached(kill) => {
                    (kill, told) = (None, None);
                    signal(ctx, cookie, SIGKILL).await;
                    leave = Some(Instant::now() + DELIVERY);
                }
                () = reached(leave) => {
                    leave = None;
                    ctx.cancel();
                }
            }
        }
    }
}

/// Sends the function a signal. A function that has already ended is no error.
async fn signal(ctx: &Context, cookie: &ContainerdCookie, number: u32) {
    let sent = match cookie.started() {
        Ok(container) => container.signal(ctx, number).await,
        Err(_) => return,
    };
    if let Err(error) = sent
        && error.kind() != crate::engine::Kind::NotFound
    {
        note(&format!("fnctr: {}", crate::chain(&error)));
    }
}
