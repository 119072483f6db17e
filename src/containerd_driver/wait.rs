//! Translates the end of a started container into the contract's result.

use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;

use super::held::Held;
use crate::driver::{
    self, ExitFacts, OutOfMemory, RunResult, StandardStream, StreamFailed, WaitResult, outcome,
};
use crate::engine::{self, LimitOwner, OomCount, Outcome};
use crate::stdio::{Stream, StreamError};
use crate::{ByteSize, Context};

/// A started container, and the context of its run, which is watched until its end.
pub(super) struct Started {
    /// Held here too, so that the container is not removed during a wait because its cookie was dropped.
    held: Held,
    watched: Context,
    /// Ends with the driver.
    driver: Context,
}

impl Started {
    pub(super) fn new(held: Held, watched: Context, driver: &Context) -> Self {
        Self {
            held,
            watched,
            driver: driver.clone(),
        }
    }

    /// Waits for the end of the run; a container without a run has no end to report.
    async fn end_of_run(&self, ctx: &Context) -> Result<Option<Outcome>, engine::Error> {
        match &self.held.run {
            Some(run) => run.wait(ctx).await,
            None => Ok(None),
        }
    }
}

#[async_trait]
impl WaitResult for Started {
    async fn wait(&self, ctx: &Context) -> RunResult {
        let ended = tokio::select! {
            biased;
            ended = self.end_of_run(ctx) => ended,
            // The context is interrupted already, so this returns what is known now.
            _ = self.watched.done() => self.end_of_run(&self.watched).await,
            _ = self.driver.done() => self.end_of_run(&self.driver).await,
        };
        let interrupted = ctx.interrupted().or_else(|| self.watched.interrupted());
        let driver_closed = self.driver.interrupted().is_some();
        let facts = match ended {
            Ok(Some(outcome)) => facts(outcome, driver_closed),
            Ok(None) if self.held.run.is_none() => ExitFacts {
                lost: true,
                ..ExitFacts::default()
            },
            Ok(None) => ExitFacts {
                driver_closed: driver_closed && interrupted.is_none(),
                ..ExitFacts::default()
            },
            // The container is no longer watched: the driver or the container was closed before the end was known.
            Err(_) => ExitFacts {
                driver_closed,
                lost: !driver_closed,
                ..ExitFacts::default()
            },
        };
        outcome(&facts, interrupted)
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exit = self.held.run.as_ref().and_then(|run| run.exit_now());
        let code = exit.and_then(|exit| exit.code);
        f.debug_struct("Started")
            .field("id", &self.held.container.id().as_str())
            .field("exit_code", &code)
            .finish_non_exhaustive()
    }
}

fn facts(outcome: Outcome, driver_closed: bool) -> ExitFacts {
    let Outcome { exit, streams } = outcome;
    let oom_unknown = exit.oom.is_none();
    let oom = exit.oom.filter(|count| count.kills > 0);
    // The streams were cut off because the driver was closed.
    let cut_off = driver_closed && matches!(streams.as_deref(), Some(StreamError::Abandoned));
    ExitFacts {
        oom_unknown,
        exit_code: exit.code,
        lost: exit.code.is_none(),
        oom: oom.map(out_of_memory),
        stream_error: streams
            .filter(|_| !cut_off)
            .map(|error| stream_failed(error.as_ref())),
        driver_closed: cut_off,
    }
}

fn stream_failed(error: &StreamError) -> StreamFailed {
    let standard = |stream: &Stream| match stream {
        Stream::Stdin => StandardStream::Input,
        Stream::Stdout => StandardStream::Output,
        Stream::Stderr => StandardStream::Error,
    };
    match error {
        StreamError::Read { stream, source } | StreamError::Write { stream, source } => {
            StreamFailed::new(Some(standard(stream)), Arc::clone(source))
        }
        StreamError::Unopened { .. } => {
            let late = io::Error::new(io::ErrorKind::TimedOut, error.clone());
            StreamFailed::new(Some(StandardStream::Input), Arc::new(late))
        }
        StreamError::Interrupted(_) | StreamError::Abandoned => {
            StreamFailed::new(None, Arc::new(io::Error::other(error.clone())))
        }
    }
}

fn out_of_memory(count: OomCount) -> OutOfMemory {
    OutOfMemory {
        limit: count.limit.map(ByteSize),
        whose: match count.whose {
            Some(LimitOwner::Own) => driver::Whose::Own,
            Some(LimitOwner::Inside) => driver::Whose::Inside,
            Some(LimitOwner::Above { dir, limit }) => driver::Whose::Above {
                cgroup: dir,
                limit: limit.map(ByteSize),
            },
            Some(LimitOwner::Machine) => driver::Whose::Machine,
            Some(LimitOwner::Unknown) | None => driver::Whose::Unknown,
        },
    }
}
