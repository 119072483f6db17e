//! The removal of a container, insisted on.

use std::time::Duration;

use super::daemon::{Daemon, Failed};
use crate::Context;
use crate::pauses::Pauses;

/// The first and the longest pause before a removal is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// Removes a container, and tries again for as long as `grace` lasts: an engine that is restarted is soon back, and
/// another removal under way ends.
///
/// # Cancellation
/// The container may be removed if this is dropped.
pub(super) async fn insist(daemon: &Daemon, id: &str, grace: Duration) -> Result<(), Failed> {
    let ctx = Context::timeout(grace);
    let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
    loop {
        // It can be asked for again, so an engine that does not answer costs no more than the grace.
        let failed = match ctx.run(daemon.remove(id)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failed)) if failed.is_missing() => return Ok(()),
            Ok(Err(failed)) => failed,
            Err(why) => Failed::new("remove container", id, why.into()),
        };
        if ctx.run(pauses.wait()).await.is_err() {
            return Err(failed);
        }
    }
}
