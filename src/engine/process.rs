//! A container's first process: its end, and the streams that it has.

use std::sync::Arc;

use tokio::sync::{OnceCell, watch};

use super::pidfd::Alive;
use super::wait::{self, Exit};
use crate::Context;
use crate::stdio::{Pumps, StreamError};

/// What there is to say about a container that ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// How its process ended.
    pub(crate) exit: Exit,
    /// Why not all of its output was delivered, if so.
    pub(crate) streams: Option<Arc<StreamError>>,
}

/// A process that is watched.
#[derive(Debug)]
pub(super) struct Process {
    /// `None` if it had ended when it was found: its number may be a stranger's by now.
    pid: Option<u32>,
    exit: watch::Receiver<Option<Exit>>,
    /// Until its end has been noticed.
    alive: Alive,
    pumps: Arc<Pumps>,
    /// Read once and then kept, however many wait for it.
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

    /// How it ended, if it has.
    pub(super) fn exit_now(&self) -> Option<Exit> {
        self.exit.borrow().clone()
    }

    /// Whether containerd no longer knew the task when it ended.
    pub(super) fn is_forgotten(&self) -> bool {
        let exit = self.exit.borrow();
        exit.as_ref().is_some_and(|exit| exit.code.is_none())
    }

    /// Waits for its end, without its output. The future keeps nothing of the container.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) fn wait_exit(&self) -> impl Future<Output = Option<Exit>> + Send + use<> {
        let mut exit = self.exit.clone();
        async move { wait::ended(&mut exit).await }
    }

    /// Ends the copies of its streams, whatever they have reached.
    pub(super) fn cut_off(&self) {
        self.pumps.abort();
    }

    /// Waits until it has ended and all its output has been delivered. `None` if `ctx` ends first, or the watch does.
    ///
    /// # Cancellation
    /// Safe to drop; may be called again, and by several at once.
    pub(super) async fn wait(&self, ctx: &Context) -> Option<Outcome> {
        if let Some(outcome) = self.outcome.get() {
            return Some(outcome.clone());
        }
        let mut exit = self.exit.clone();
        let ended = match ctx.run(wait::ended(&mut exit)).await {
            Ok(ended) => ended,
            // Of an end and an interruption at the same moment the end is the better answer.
            Err(_) => self.exit_now(),
        };
        let exit = ended?;
        let streams = self.pumps.finished(ctx).await.err().map(Arc::new);
        if streams
            .as_ref()
            .is_some_and(|error| matches!(**error, StreamError::Interrupted(_)))
        {
            // Not all output is delivered yet, so this is not the last word.
            return Some(Outcome { exit, streams: None });
        }
        let last = self.outcome.get_or_init(|| async { Outcome { exit, streams } });
        Some(last.await.clone())
    }
}
