//! A started container's end, in the contract's words.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;

use crate::driver::{self, ExitFacts, OutOfMemory, RunResult, WaitResult, outcome};
use crate::engine::{Container, OomCount, Outcome, Whose};
use crate::{ByteSize, Context};

/// A container that was started under a context which is watched until its end.
#[derive(Debug)]
pub(super) struct Started {
    container: Container,
    watched: Context,
}

impl Started {
    pub(super) fn new(container: Container, watched: Context) -> Self {
        Self { container, watched }
    }
}

#[async_trait]
impl WaitResult for Started {
    async fn wait(&self, ctx: &Context) -> RunResult {
        let ended = tokio::select! {
            biased;
            ended = self.container.wait(ctx) => ended,
            // Interrupted as it is, this context gives the answer that is known now.
            _ = self.watched.done() => self.container.wait(&self.watched).await,
        };
        let interrupted = ctx.interrupted().or_else(|| self.watched.interrupted());
        let facts = match ended {
            Ok(Some(outcome)) => facts(outcome),
            Ok(None) => ExitFacts::default(),
            // Nobody watches it any more: it was closed, or the driver was, before its end was known.
            Err(error) => ExitFacts {
                stream_error: Some(Arc::new(io::Error::other(error))),
                ..ExitFacts::default()
            },
        };
        outcome(&facts, interrupted)
    }
}

fn facts(outcome: Outcome) -> ExitFacts {
    let Outcome { exit, streams } = outcome;
    let oom_unknown = exit.oom.is_none();
    let oom = exit.oom.filter(|count| count.kills > 0);
    ExitFacts {
        oom_unknown,
        exit_code: exit.code,
        lost: exit.code.is_none(),
        oom: oom.map(out_of_memory),
        stream_error: streams.map(|error| Arc::new(io::Error::other(error))),
    }
}

fn out_of_memory(count: OomCount) -> OutOfMemory {
    OutOfMemory {
        limit: count.limit.map(ByteSize),
        whose: match count.whose {
            Some(Whose::Own) => driver::Whose::Own,
            Some(Whose::Inside) => driver::Whose::Inside,
            Some(Whose::Above { dir, limit }) => driver::Whose::Above {
                cgroup: dir,
                limit: limit.map(ByteSize),
            },
            Some(Whose::Machine) => driver::Whose::Machine,
            Some(Whose::Unknown) | None => driver::Whose::Unknown,
        },
    }
}
