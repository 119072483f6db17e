//! A container's first process: its end and its streams.

use std::sync::Arc;

use tokio::sync::{OnceCell, watch};

use super::pidfd::Alive;
use super::wait::{self, Exit};
use crate::Context;
use crate::stdio::{Pumps, StreamError};

/// The outcome of a container that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// How its process ended.
    pub(crate) exit: Exit,
    /// Why a part of its output was not delivered, if so.
    pub(crate) streams: Option<Arc<StreamError>>,
}

/// A process that is watched.
#[derive(Debug)]
pub(super) struct Process {
    /// `None` if it had ended when the container was adopted: its pid may belong to another process by now.
    pid: Option<u32>,
    exit: watch::Receiver<Option<Exit>>,
    /// Valid until the end of the process has been noticed.
    alive: Alive,
    pumps: Arc<Pumps>,
    /// Read once and then kept, for any number of waiters.
    outcome: OnceCell<Outcome>,
}

impl Process {
    pub(super) fn new(
        pid: Option<u32>,
        (exit, alive): (watch::Receiver<Option<Exit>>, Alive),
        pumps: Arc<Pumps>,
    ) -> Self {
        Self {
            pid,
            exit,
            alive,
            pumps,
            outcome: OnceCell::new(),
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.pid
    }

    pub(super) fn alive(&self) -> &Alive {
        &self.alive
    }

    /// How the process ended, if it has.
    pub(super) fn exit_now(&self) -> Option<Exit> {
        self.exit.borrow().clone()
    }

    /// Whether the process has ended and containerd had lost its task by then.
    pub(super) fn is_forgotten(&self) -> bool {
        let exit = self.exit.borrow();
        exit.as_ref().is_some_and(|exit| exit.code.is_none())
    }

    /// Waits for the end of the process, but not for its output. The future holds no reference to the container.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) fn wait_exit(&self) -> impl Future<Output = Option<Exit>> + Send + use<> {
        let mut exit = self.exit.clone();
        async move { wait::ended(&mut exit).await }
    }

    /// Stops the copies of its streams, even if they are not complete.
    pub(super) fn cut_off(&self) {
        self.pumps.abort();
    }

    /// Waits until the process has ended and all its output has been delivered. `None` if `ctx` or the watch ends
    /// first.
    ///
    /// # Cancellation
    /// Safe to drop. May be called again, and by several callers at once.
    pub(super) async fn wait(&self, ctx: &Context) -> Option<Outcome> {
        if let Some(outcome) = self.outcome.get() {
            return Some(outcome.clone());
        }
        let mut exit = self.exit.clone();
        let ended = match ctx.run(wait::ended(&mut exit)).await {
            Ok(ended) => ended,
            // If the process ends and `ctx` is interrupted at the same moment, the exit is the better answer.
            Err(_) => self.exit_now(),
        };
        let exit = ended?;
        let streams = self.pumps.finished(ctx).await.err().map(Arc::new);
        if streams
            .as_ref()
            .is_some_and(|error| matches!(**error, StreamError::Interrupted(_)))
        {
            // Not all output is delivered yet, so this outcome is not final.
            return Some(Outcome { exit, streams: None });
        }
        let last = self.outcome.get_or_init(|| async { Outcome { exit, streams } });
        Some(last.await.clone())
    }
}
