//! Holds the streams of kept containers that no process holds: those of a server that was killed, and of a command that
//! has left a container running. Anybody can attach to them, and without readers the container never waits.

use super::served::Served;
use crate::stdio::{Fifos, StreamsLock};

/// Takes the streams of a container's run over, if it runs and nobody holds them.
pub(super) fn hold(served: &Served) {
    let container = served.container();
    let alive = container
        .run()
        .filter(|run| !run.is_ready() && run.exit_now().is_none());
    let Some(run) = alive.filter(|run| container.is_kept() && !served.holds(run)) else {
        return;
    };
    let dir = container.deps().fifo_dir(served.id());
    if !Fifos::are_in(&dir) {
        served.set_needless(&run);
        return;
    }
    let held = match StreamsLock::take(&dir) {
        Ok(Some(hold)) => {
            let log = served.plan().ok().and_then(|plan| plan.log.clone());
            container.reopen_streams(&run, &hold, log.as_ref(), served.streams().clone())
        }
        // Another process has them.
        Ok(None) => return,
        // The run has just been removed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(id = %served.id(), %error, "cannot hold the streams of a container; it waits when its output fills the pipe");
            return;
        }
    };
    match held {
        Ok(reopened) => served.set_held(&run, reopened.start(container, &run)),
        Err(error) => {
            tracing::warn!(id = %served.id(), error = %crate::chain(&error), "cannot hold the streams of a container; it waits when its output fills the pipe");
        }
    }
}
