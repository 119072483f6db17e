//! The start of a container, which is made once whatever becomes of the engine's answer.

use std::time::Duration;

use super::daemon::{Daemon, Failed};
use crate::Context;
use crate::pauses::Pauses;

/// The first and the longest pause before an engine that did not answer is asked again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// Starts a container. If the engine's answer is lost, the container may run, or may have run: it is started again only
/// if it has done neither. Gives up after `grace`.
///
/// # Cancellation
/// The container may have been started if this is dropped.
pub(super) async fn start(daemon: &Daemon, id: &str, grace: Duration) -> Result<(), Failed> {
    let failed = match daemon.start(id).await {
        Err(failed) if failed.is_unknown() => failed,
        answered => return answered,
    };
    let ctx = Context::timeout(grace);
    let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
    while ctx.run(pauses.wait()).await.is_ok() {
        match daemon.state(id).await {
            Ok(state) if state.is_running || state.is_over => return Ok(()),
            Ok(_) => match daemon.start(id).await {
                Err(failed) if failed.is_unknown() => {}
                answered => return answered,
            },
            Err(failed) if failed.is_unknown() => {}
            Err(failed) => return Err(failed),
        }
    }
    Err(failed)
}
