//! Ends the input of a process when what feeds it has ended: until then, the process does not see the end, because the
//! shim holds a write end of the fifo, too.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::Deps;
use crate::ContainerId;
use crate::containerd::ProcessId;
use crate::metrics::RetryReason;
use crate::pauses::Pauses;
use crate::stdio::Pumps;

/// The pause before containerd is asked again; doubles up to [`MAX_RETRY`].
const RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_secs(2);

/// The process whose input is ended: an exec of the container, or its first process.
#[derive(Debug)]
pub(super) struct Fed {
    pub(super) container: ContainerId,
    pub(super) exec: Option<String>,
}

impl Fed {
    fn of(&self) -> ProcessId<'_> {
        ProcessId {
            container: &self.container,
            exec: self.exec.as_deref(),
        }
    }
}

/// Closes the shim's write end once `pumps` have passed on all input. Not for a terminal, which the end would hang up.
pub(super) fn end_at_its_end(deps: &Arc<Deps>, fed: Fed, pumps: &Arc<Pumps>) {
    let (deps, pumps) = (Arc::clone(deps), Arc::clone(pumps));
    let tracker = deps.background.tracker.clone();
    // A late try must not end the input of a later container of the same name.
    let ctx = pumps.life().child();
    let end = async move {
        // `false` for a null stream, a process that no longer reads, or a close.
        if ctx.run(pumps.stdin_done()).await != Ok(true) {
            return;
        }
        let tasks = deps.session.tasks();
        let mut pauses = Pauses::new(RETRY, MAX_RETRY);
        loop {
            let once = ctx.with_timeout(deps.config.close_grace);
            match tasks.close_stdin(&once, fed.of()).await {
                Ok(()) => return,
                // A process that is gone needs no end of file.
                Err(error) if error.is_not_found() => return,
                // Nothing else ends the input, and a process that reads to its end would wait for ever.
                Err(error) => {
                    tracing::warn!(id = %fed.container, %error, "cannot end the input of a process; trying again");
                }
            }
            if ctx.run(pauses.wait()).await.is_err() {
                return;
            }
            deps.metrics().retry(RetryReason::StdinClose);
        }
    };
    tracker.spawn(end.in_current_span());
}
