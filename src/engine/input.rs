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

/// Closes the shim's write end once `pumps` have passed on all input, of an exec or of the container's first process. Not for
/// a terminal, which the end would hang up.
pub(super) fn end_at_its_end(
    deps: &Arc<Deps>,
    container: &ContainerId,
    exec: Option<&str>,
    pumps: &Arc<Pumps>,
) {
    let (deps, pumps) = (Arc::clone(deps), Arc::clone(pumps));
    let (container, exec) = (container.clone(), exec.map(str::to_owned));
    let tracker = deps.background.tracker.clone();
    // A late try must not end the input of a later container of the same name.
    let ctx = pumps.life().child();
    let end = async move {
        // `false` for a null stream, a process that no longer reads, or a close.
        if ctx.run(pumps.stdin_done()).await != Ok(true) {
            return;
        }
        let (tasks, container) = (deps.session.tasks(), &container);
        let exec = exec.as_deref();
        let mut pauses = Pauses::new(RETRY, MAX_RETRY);
        loop {
            let once = ctx.with_timeout(deps.config.close_grace);
            match tasks.close_stdin(&once, ProcessId { container, exec }).await {
                Ok(()) => return,
                // A process that is gone needs no end of file.
                Err(error) if error.is_not_found() => return,
                // Nothing else ends the input, and a process that reads to its end would wait for ever.
                Err(error) => {
                    tracing::warn!(id = %container, %error, "cannot end the input of a process; trying again");
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
