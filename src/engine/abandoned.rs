//! Containers that no process looks after: those past their deadline are ended, and the run of a kept container that
//! has ended is settled. Any command that runs at the time does so, or else the next one. While the instance has a
//! server, commands leave that to it: to look, they would read every record.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::adopt::adopt_record;
use super::custody::{now, owner_is_gone, until_deadline};
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::facts::Facts;
use super::find::get;
use super::first_records::FirstRecords;
use super::remains::Remains;
use super::stop::Stop;
use super::{Deps, kept, server_lock, settle};
use crate::containerd::Record;
use crate::metrics::RetryReason;
use crate::{ContainerId, Context};

/// The longest pause between two looks at the records: an owner that runs now may be killed later.
const AGAIN: Duration = Duration::from_secs(10);
/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks after the containers whose owner is gone, in the background and until the engine ends. The first look is
/// finished even if the engine is closed at once.
pub(super) fn look_after(deps: &Arc<Deps>, first: &FirstRecords) {
    let (this, first) = (Arc::clone(deps), first.clone());
    let work = async move {
        let mut records = Some(first);
        loop {
            let pause = match once_without_server(&this, records.take().unwrap_or_default()).await {
                Ok(next) => next.clamp(PAUSE, AGAIN),
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "cannot look after containers whose owner is gone; trying again");
                    this.metrics().retry(RetryReason::CleanUp);
                    AGAIN
                }
            };
            let until = Instant::now() + pause;
            loop {
                let ended = this.exits.unwatched();
                match this
                    .background
                    .life
                    .run(tokio::time::timeout_at(until, ended))
                    .await
                {
                    Ok(Ok(_)) if server_lock::is_served(&this) => {}
                    Ok(Ok(id)) => look_at(&this, &id).await,
                    Ok(Err(_)) => break,
                    Err(_) => return,
                }
            }
        }
    };
    deps.background.tracker.spawn(work.in_current_span());
}

/// Looks at one container whose process has ended.
async fn look_at(deps: &Arc<Deps>, id: &ContainerId) {
    let ctx = Context::timeout(deps.config.close_grace);
    if let Err(error) = mend_now(deps, &ctx, id).await {
        tracing::debug!(%id, error = %crate::chain(&error), "cannot look after a container that has ended; the next look does");
    }
}

/// Does what a container needs by its record as it is now: it may have been started again or replaced since it was
/// found.
async fn mend_now(deps: &Arc<Deps>, ctx: &Context, id: &ContainerId) -> Result<()> {
    let record = get(deps, ctx, id).await?;
    match need_of(deps, &record).await? {
        Some(need) => mend(deps, ctx, &record, need).await,
        None => Ok(()),
    }
}

/// Like [`once`], unless a server does it.
async fn once_without_server(deps: &Arc<Deps>, records: FirstRecords) -> Result<Duration> {
    match server_lock::is_served(deps) {
        true => Ok(AGAIN),
        false => once(deps, records).await,
    }
}

/// Ends and settles what is due, and returns the time until the next deadline.
async fn once(deps: &Arc<Deps>, records: FirstRecords) -> Result<Duration> {
    let Found {
        due,
        next,
        mut failed,
    } = find(deps, records).await?;
    for (record, _) in due {
        // Not the engine's context: a command that ends at once waits for this at its close and does not cut it off.
        let ctx = Context::timeout(deps.config.close_grace);
        match mend_now(deps, &ctx, &record.id).await {
            Ok(()) => {}
            // Another process was faster.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::OutOfOrder) => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(next), Err)
}

/// What an abandoned container needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Its process is to be killed, and the container removed unless it is kept.
    End,
    /// The end of its run is to be written, and the run removed.
    Settle,
}

/// The abandoned containers that need something, and the time until the next one may.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) due: Vec<(Record, Need)>,
    next: Duration,
    /// Why a container could not be looked at, if so.
    pub(super) failed: Option<Error>,
}

/// Finds the containers that need something now.
pub(super) async fn find(deps: &Arc<Deps>, records: FirstRecords) -> Result<Found> {
    let mut found = Found {
        due: Vec::new(),
        next: AGAIN,
        failed: None,
    };
    let now = now();
    for record in records.get(deps).await? {
        let left = until_deadline(&record.labels, now);
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            found.next = found.next.min(left);
        }
        match need_of(deps, record).await {
            Ok(need) => found.due.extend(need.map(|need| (record.clone(), need))),
            Err(error) => found.failed = Some(error),
        }
    }
    Ok(found)
}

/// What a container needs now.
pub(super) async fn need_of(deps: &Arc<Deps>, record: &Record) -> Result<Option<Need>> {
    let is_over = until_deadline(&record.labels, now()) == Some(Duration::ZERO);
    // If the owner runs, it ends the container itself.
    let is_overdue = is_over && owner_is_gone(&record.labels);
    match kept::is_kept(record) {
        true => need_of_kept(deps, record, is_overdue).await,
        false => Ok(is_overdue.then_some(Need::End)),
    }
}

async fn need_of_kept(deps: &Arc<Deps>, record: &Record, is_overdue: bool) -> Result<Option<Need>> {
    let has_processes = Remains::of_record(deps, record, Facts::of(record).placement).have_processes(deps);
    // Most run, and need no question to their shims.
    if has_processes && !is_overdue {
        return Ok(None);
    }
    let ctx = Context::timeout(deps.config.close_grace);
    let task = match deps.session.tasks().get(&ctx, &record.id).await {
        Err(error) if error.is_not_found() => None,
        found => Some(found.at(Step::Find, &record.id)?),
    };
    Ok(match settle::is_due(deps, record, task.as_ref()) {
        true => Some(Need::Settle),
        false => (is_overdue && task.is_some()).then_some(Need::End),
    })
}

/// Does what a container needs.
pub(super) async fn mend(deps: &Arc<Deps>, ctx: &Context, record: &Record, need: Need) -> Result<()> {
    match need {
        Need::Settle => settle::settle(deps, ctx, record).await,
        Need::End if kept::is_kept(record) => {
            let container = adopt_record(deps, ctx, record).await?;
            container.stop_here(ctx, Stop::KILL).await?;
            tell(record);
            Ok(())
        }
        Need::End => remove(deps, ctx, record).await,
    }
}

async fn remove(deps: &Arc<Deps>, ctx: &Context, record: &Record) -> Result<()> {
    adopt_record(deps, ctx, record).await?.remove().await?;
    tell(record);
    Ok(())
}

fn tell(record: &Record) {
    tracing::info!(id = %record.id, "ended a container at its deadline, because the process that made it is gone");
}
