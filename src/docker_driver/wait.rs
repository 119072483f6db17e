//! Translates the end of a run into the contract's result.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::container::Container;
use super::run::{Delivery, Known, Run};
use super::streams::lost;
use crate::driver::{ExitFacts, OutOfMemory, RunResult, WaitResult, Whose, outcome};
use crate::{ByteSize, Context};

/// A started container, and the context of its run, which is watched until its end.
pub(super) struct Started {
    /// Held here too, so that the container is not removed during a wait because its cookie was dropped.
    container: Arc<Container>,
    run: Arc<Run>,
    memory_limit: Option<u64>,
    watched: Context,
    /// Ends with the driver.
    driver: Context,
}

impl Started {
    pub(super) fn new(
        container: Arc<Container>,
        run: Arc<Run>,
        memory_limit: Option<u64>,
        watched: Context,
        driver: &Context,
    ) -> Self {
        Self {
            container,
            run,
            memory_limit,
            watched,
            driver: driver.clone(),
        }
    }
}

#[async_trait]
impl WaitResult for Started {
    async fn wait(&self, ctx: &Context) -> RunResult {
        tokio::select! {
            biased;
            () = self.run.over() => {}
            _ = ctx.done() => {}
            _ = self.watched.done() => {}
            _ = self.driver.done() => {}
        }
        let interrupted = ctx.interrupted().or_else(|| self.watched.interrupted());
        let driver_closed = self.driver.interrupted().is_some();
        outcome(
            &facts(self.run.known(), self.memory_limit, driver_closed),
            interrupted,
        )
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started")
            .field("id", &self.container.id())
            .field("exit", &self.run.known().exit)
            .finish_non_exhaustive()
    }
}

fn facts(known: Known, memory_limit: Option<u64>, driver_closed: bool) -> ExitFacts {
    let Some(exit) = known.exit else {
        return ExitFacts {
            driver_closed,
            ..ExitFacts::default()
        };
    };
    ExitFacts {
        exit_code: exit.code,
        lost: exit.code.is_none(),
        oom_unknown: exit.oom.is_none(),
        oom: (exit.oom == Some(true)).then(|| out_of_memory(memory_limit)),
        driver_closed: driver_closed && !matches!(known.streams, Delivery::Over(_)),
        stream_error: match known.streams {
            Delivery::Over(failed) => failed,
            Delivery::CutOff if !driver_closed => {
                Some(lost("the cookie was closed before all output was delivered"))
            }
            Delivery::Flowing | Delivery::CutOff => None,
        },
    }
}

/// The engine tells that memory ran out, and not whose. A container with a limit of its own has hit it in all but rare
/// cases.
fn out_of_memory(limit: Option<u64>) -> OutOfMemory {
    OutOfMemory {
        limit: limit.map(ByteSize),
        whose: match limit {
            Some(_) => Whose::Own,
            None => Whose::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::Interrupted;
    use crate::docker_driver::run::Exit;
    use crate::driver::{Status, StreamFailed};

    fn known(code: Option<u32>, oom: Option<bool>, streams: Delivery) -> Known {
        Known {
            exit: Some(Exit { code, oom }),
            streams,
        }
    }

    fn said(
        known: Known,
        limit: Option<u64>,
        closed: bool,
        interrupted: Option<Interrupted>,
    ) -> (Status, String) {
        let result = outcome(&facts(known, limit, closed), interrupted);
        let error = result.error().map(ToString::to_string);
        (result.status(), error.unwrap_or_default())
    }

    #[test]
    fn what_the_engine_tells_becomes_the_contract_s_result() {
        let over = || Delivery::Over(None);
        let late = Some(Interrupted::DeadlineExceeded);
        let broken = StreamFailed::new(None, Arc::new(io::Error::other("full")));
        for (known, limit, closed, interrupted, status, error) in [
            (
                known(Some(0), Some(false), over()),
                None,
                false,
                None,
                Status::Success,
                "",
            ),
            (
                known(Some(7), Some(false), over()),
                None,
                false,
                late,
                Status::Error,
                "container exit code 7",
            ),
            (
                known(Some(0), Some(false), over()),
                None,
                false,
                late,
                Status::Timeout,
                "deadline exceeded",
            ),
            (
                known(Some(137), Some(true), over()),
                Some(32 << 20),
                false,
                None,
                Status::Killed,
                "out of memory: the container's own limit of 32m was hit",
            ),
            (
                known(Some(137), Some(true), over()),
                None,
                false,
                None,
                Status::Killed,
                "out of memory: it is not known whose limit was hit",
            ),
            (
                known(Some(137), Some(false), over()),
                Some(1),
                false,
                None,
                Status::Killed,
                "killed by signal 9, not by memory",
            ),
            (
                known(Some(137), None, over()),
                Some(1),
                false,
                None,
                Status::Killed,
                "killed by signal 9; it is not known whether memory ran out",
            ),
            (
                known(None, None, over()),
                None,
                false,
                None,
                Status::Error,
                "the container ended, and its exit code is lost",
            ),
            (
                known(Some(0), Some(false), Delivery::Over(Some(broken))),
                None,
                false,
                None,
                Status::Error,
                "the container's streams failed",
            ),
            (
                known(Some(0), Some(false), Delivery::CutOff),
                None,
                true,
                None,
                Status::Error,
                "the driver was closed before the function had ended and all its output was delivered",
            ),
            (
                known(Some(0), Some(false), Delivery::CutOff),
                None,
                false,
                None,
                Status::Error,
                "the container's streams failed",
            ),
            (Known::default(), None, false, None, Status::Running, ""),
            (
                Known::default(),
                None,
                true,
                None,
                Status::Error,
                "the driver was closed before the function had ended and all its output was delivered",
            ),
        ] {
            let shown = format!("{known:?}");
            assert_eq!(
                said(known, limit, closed, interrupted),
                (status, error.to_owned()),
                "{shown}"
            );
        }
    }
}
