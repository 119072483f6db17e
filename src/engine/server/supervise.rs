//! Writes the end of each run down at once, ends containers at their deadline whose owner is gone, and takes over the
//! streams of owners that are gone.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::served::Served;
use super::shared::Shared;
use super::streams;
use crate::Context;
use crate::engine::abandoned::{self, Need};
use crate::engine::custody;
use crate::engine::error::{Kind, Result};
use crate::engine::{kept, label};
use crate::pauses::Pauses;

/// The longest pause between two looks at all containers: an owner that runs now may be killed later.
const AGAIN: Duration = Duration::from_secs(10);
/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause before what a container needs is tried again; doubles up to [`AGAIN`].
const RETRY: Duration = Duration::from_millis(100);

/// Starts to look at all containers again and again, until the server ends.
pub(super) fn start(shared: &Arc<Shared>) {
    let this = Arc::clone(shared);
    let work = async move {
        let life = this.life.clone();
        let look = async {
            loop {
                tokio::time::sleep(until_next(&this)).await;
                for served in this.registry.all() {
                    streams::hold(&served);
                    if let Err(error) = tend(&this, &served).await {
                        tracing::warn!(id = %served.id(), error = %crate::chain(&error), "cannot look after a container; trying again");
                    }
                }
            }
        };
        // The server has ended.
        let _ = life.run(look).await;
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
}

/// The time until the next deadline of a container, within bounds.
fn until_next(shared: &Shared) -> Duration {
    let now = custody::now();
    let all = shared.registry.all();
    let deadlines = all
        .iter()
        .filter_map(|served| custody::until_deadline(&served.record().labels, now));
    deadlines.min().map_or(AGAIN, |left| left.clamp(PAUSE, AGAIN))
}

/// Waits for the end of a container's run on a task of its own, unless one does so already.
pub(super) fn begin(shared: &Arc<Shared>, served: &Arc<Served>) {
    let Some(run) = served.run_to_supervise() else {
        return;
    };
    let (this, served) = (Arc::clone(shared), Arc::clone(served));
    let work = async move {
        let life = this.life.clone();
        let supervise = async {
            if run.wait_exit().await.is_none() {
                return;
            }
            drop(run);
            let mut pauses = Pauses::new(RETRY, AGAIN);
            while let Err(error) = write_end(&this, &served).await {
                tracing::warn!(id = %served.id(), error = %crate::chain(&error), "cannot write down how a container ended; trying again");
                pauses.wait().await;
            }
        };
        let _ = life.run(supervise).await;
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
}

/// Writes down how the run of a container has ended, if its owner does not.
async fn write_end(shared: &Shared, served: &Served) -> Result<()> {
    let record = served.record();
    let labels = &record.labels;
    let is_left = labels.contains_key(label::DETACHED) || custody::owner_is_gone(labels);
    match kept::has_run(&record) && is_left {
        true => settle(shared, served).await,
        false => Ok(()),
    }
}

async fn settle(shared: &Shared, served: &Served) -> Result<()> {
    let Ok(_place) = shared.places.acquire().await else {
        return Ok(());
    };
    unless_done(served.container().settle().await.map(drop))
}

/// Another process may have been faster.
fn unless_done(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::OutOfOrder) => Ok(()),
        done => done,
    }
}

/// Does what a container needs now, if anything.
async fn tend(shared: &Shared, served: &Served) -> Result<()> {
    let record = served.record();
    let is_due = kept::has_run(&record) || custody::until_deadline(&record.labels, custody::now()).is_some();
    if !is_due {
        return Ok(());
    }
    match abandoned::need_of(&shared.deps, &record).await? {
        None => Ok(()),
        Some(Need::Settle) => settle(shared, served).await,
        Some(Need::End) => {
            let ctx = Context::timeout(shared.deps.config.close_grace);
            unless_done(abandoned::mend(&shared.deps, &ctx, &record, Need::End).await)
        }
    }
}
