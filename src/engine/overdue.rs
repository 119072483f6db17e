//! Ends containers at their deadline whose owner was killed. Any process that runs at the deadline does so, or else the
//! next one.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::custody::{now, owner_is_gone, until_deadline};
use super::error::{At as _, Kind, Result, Step};
use super::find::adopt_record;
use super::label;
use super::{Deps, Engine};
use crate::Context;

/// The longest pause between two looks at the records: an owner that runs now may be killed later.
const AGAIN: Duration = Duration::from_secs(10);
/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

impl Engine {
    /// Ends containers that are past their deadline and whose owner is gone, in the background and until the engine
    /// ends. The first look is finished even if the engine is closed at once.
    pub(crate) fn end_overdue(&self) {
        let deps = Arc::clone(&self.0);
        let tracker = deps.background.tracker.clone();
        let work = async move {
            loop {
                let pause = match once(&deps).await {
                    Ok(next) => next.clamp(PAUSE, AGAIN),
                    Err(error) => {
                        tracing::warn!(error = %crate::chain(&error), "cannot end containers that are past their deadline; trying again");
                        AGAIN
                    }
                };
                if deps.background.life.run(tokio::time::sleep(pause)).await.is_err() {
                    return;
                }
            }
        };
        tracker.spawn(work.in_current_span());
    }
}

/// Ends the containers that are due, and returns the time until the next deadline.
async fn once(deps: &Arc<Deps>) -> Result<Duration> {
    // Not the engine's context: a command that ends at once waits for this at its close and does not cut it off.
    let ctx = Context::timeout(deps.config.close_grace);
    let filter = format!("labels.{:?}", label::DEADLINE);
    let records = deps.session.containers().list(&ctx, &[filter]).await;
    let records = records.at(Step::Find, "containers with a deadline")?;
    let (mut next, mut failed) = (AGAIN, None);
    let now = now();
    for record in records {
        match until_deadline(&record.labels, now) {
            None => continue,
            Some(Duration::ZERO) => {}
            Some(left) => {
                next = next.min(left);
                continue;
            }
        }
        // If the owner runs, it ends the container itself.
        if !owner_is_gone(&record.labels) {
            continue;
        }
        let ctx = Context::timeout(deps.config.close_grace);
        match async { adopt_record(deps, &ctx, &record).await?.remove().await }.await {
            Ok(()) => {
                tracing::info!(id = %record.id, "ended a container at its deadline, because the process that made it is gone")
            }
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(next), Err)
}
