//! Containers that no process looks after: those past their deadline are ended, and the run of a kept container that
//! has ended is settled. Any process that runs at the time does so, or else the next one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::custody::{now, owner_is_gone, until_deadline};
use super::error::{At as _, Kind, Result, Step};
use super::find::adopt_record;
use super::stop::Stop;
use super::{Deps, Engine, kept, label, settle};
use crate::Context;
use crate::containerd::{Record, TaskInfo};

/// The longest pause between two looks at the records: an owner that runs now may be killed later.
const AGAIN: Duration = Duration::from_secs(10);
/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

impl Engine {
    /// Looks after the containers whose owner is gone, in the background and until the engine ends. The first look is
    /// finished even if the engine is closed at once.
    pub(crate) fn look_after_abandoned(&self) {
        let deps = Arc::clone(&self.0);
        let tracker = deps.background.tracker.clone();
        let work = async move {
            loop {
                let pause = match once(&deps).await {
                    Ok(next) => next.clamp(PAUSE, AGAIN),
                    Err(error) => {
                        tracing::warn!(error = %crate::chain(&error), "cannot look after containers whose owner is gone; trying again");
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

/// Ends and settles what is due, and returns the time until the next deadline.
async fn once(deps: &Arc<Deps>) -> Result<Duration> {
    let step = Step::Find;
    let name = "containers whose owner is gone";
    // Not the engine's context: a command that ends at once waits for this at its close and does not cut it off.
    let ctx = Context::timeout(deps.config.close_grace);
    let filters = [label::DEADLINE, label::KEPT].map(|label| format!("labels.{label:?}"));
    let records = deps.session.containers().list(&ctx, &filters).await;
    let records = records.at(step, name)?;
    let tasks = match records.iter().any(kept::is_kept) {
        true => deps.session.tasks().list(&ctx).await.at(step, name)?,
        false => Vec::new(),
    };
    let tasks: BTreeMap<String, TaskInfo> = tasks.into_iter().collect();
    let (mut next, mut failed) = (AGAIN, None);
    let now = now();
    for record in records {
        let left = until_deadline(&record.labels, now);
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            next = next.min(left);
        }
        let task = tasks.get(record.id.as_str());
        // If the owner runs, it ends the container itself.
        let is_overdue = left == Some(Duration::ZERO) && owner_is_gone(&record.labels);
        let ctx = Context::timeout(deps.config.close_grace);
        let done = if settle::is_due(deps, &record, task) {
            settle::settle(deps, &ctx, &record).await
        } else if is_overdue && (task.is_some() || !kept::is_kept(&record)) {
            end(deps, &ctx, &record).await
        } else {
            Ok(())
        };
        match done {
            Ok(()) => {}
            // Another process was faster.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::OutOfOrder) => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(next), Err)
}

/// Ends a container that is past its deadline. One that is kept stays, without its run.
async fn end(deps: &Arc<Deps>, ctx: &Context, record: &Record) -> Result<()> {
    let container = adopt_record(deps, ctx, record).await?;
    if container.is_kept() {
        container.stop_here(ctx, Stop::KILL).await?;
    } else {
        container.remove().await?;
    }
    tracing::info!(id = %record.id, "ended a container at its deadline, because the process that made it is gone");
    Ok(())
}
