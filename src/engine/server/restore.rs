//! Brings a server's view in line with containerd: all of it when the server starts and whenever events may have been
//! missed, and one container when an event names it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::restarting::{self, Cause};
use super::served::Served;
use super::shared::Shared;
use super::{health, names, streams, supervise};
use crate::containerd::{Record, Subscription, TaskInfo};
use crate::engine::error::{ErrorContext as _, Kind, Result, Step};
use crate::engine::facts::Facts;
use crate::engine::{adopt, custody, find, kept, label, record};
use crate::{ContainerId, Context};

/// How long the end of a process may take to be known, once its container is removed.
const EXIT: Duration = Duration::from_secs(1);

/// Whether a container is as containerd has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refreshed {
    /// It is.
    Done,
    /// A step of this process is changing it, so its run is looked at again afterwards.
    Later,
}

/// A subscription to changes, and the containers that are to be looked at again.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) changes: Subscription<String>,
    pub(super) again: BTreeSet<ContainerId>,
}

/// Subscribes to changes, and then looks at every container, so that no change is missed in between. Returns the
/// subscription, and the containers that are to be looked at again.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn restore(shared: &Arc<Shared>, ctx: &Context) -> Result<Restored> {
    const ALL: &str = "the containers of the server";
    let session = &shared.deps.session;
    let changes = session.events().changes(ctx).await.at(Step::Find, ALL)?;
    let filters = [format!("labels.{:?}", label::ENGINE)];
    let (containers, tasks) = (session.containers(), session.tasks());
    let (records, tasks) = tokio::join!(containers.list(ctx, &filters), tasks.list(ctx));
    let (records, tasks) = (records.at(Step::Find, ALL)?, tasks.at(Step::Find, ALL)?);
    let there: BTreeSet<_> = records.iter().map(|record| record.id.clone()).collect();
    for served in shared.registry.all() {
        if !there.contains(served.id()) {
            forget(shared, served.id()).await;
        }
    }
    let mut again = BTreeSet::new();
    let mut tasks: BTreeMap<String, TaskInfo> = tasks.into_iter().collect();
    for record in records {
        let task = tasks.remove(record.id.as_str());
        if known(shared, &record).is_some() {
            let id = record.id.clone();
            match refresh_with(shared, ctx, record).await {
                Ok(Refreshed::Done) => {}
                Ok(Refreshed::Later) => drop(again.insert(id)),
                // Such as one whose shim does not answer.
                Err(error) => {
                    tracing::debug!(%id, error = %crate::chain(&error), "cannot look at a container; trying again");
                    again.insert(id);
                }
            }
        } else {
            let container = adopt::adopt_with(&shared.deps, &record, task)?;
            insert(shared, Served::new(container, record)).await;
        }
    }
    Ok(Restored { changes, again })
}

/// Looks at one container.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn refresh(shared: &Arc<Shared>, ctx: &Context, id: &ContainerId) -> Result<Refreshed> {
    let served = shared.registry.get(id);
    let _look = match &served {
        Some(served) => Some(served.look_lock().lock().await),
        None => None,
    };
    match find::get(&shared.deps, ctx, id).await {
        Ok(record) => refresh_with(shared, ctx, record).await,
        Err(error) if error.kind() == Kind::NotFound => {
            forget(shared, id).await;
            Ok(Refreshed::Done)
        }
        Err(error) => Err(error),
    }
}

async fn refresh_with(shared: &Arc<Shared>, ctx: &Context, record: Record) -> Result<Refreshed> {
    let last = kept::last_run(&record);
    let served = match known(shared, &record) {
        // One that is not kept has one run, which is adopted when its end can be watched.
        Some(served) if last.is_some() || is_watched(&served) => served,
        _ if !record.labels.contains_key(label::ENGINE) => {
            // Another program's, in place of one of ours.
            forget(shared, &record.id).await;
            return Ok(Refreshed::Done);
        }
        _ => return add(shared, ctx, record).await,
    };
    let was_running = kept::has_run(&served.record());
    if served.name().as_deref() == crate::engine::names::name_of(&record) {
        served.set_record(record);
    } else {
        shared
            .registry
            .rename(&served, |served| served.set_record(record));
        names::rename(shared, &served);
    }
    if kept::restarts(&served.record()).is_stopped {
        served.cancel_restart();
    }
    if let Some(run) = served.container().run() {
        // Another process may have changed it.
        run.set_memory_limit(Facts::of(&served.record()).memory);
    }
    if let Some(last) = last {
        let Ok(_own) = served.container().undo().try_lock() else {
            return Ok(Refreshed::Later);
        };
        let record = served.record();
        served.container().catch_up(ctx, &record, &last).await?;
    }
    look_after(shared, &served);
    if was_running && !kept::has_run(&served.record()) {
        // Whoever has settled it.
        restarting::follow_policy(shared, &served, Cause::RunOver, None);
    }
    Ok(Refreshed::Done)
}

/// Adds the container of a record.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn add(shared: &Arc<Shared>, ctx: &Context, record: Record) -> Result<Refreshed> {
    let container = adopt::adopt_record(&shared.deps, ctx, &record).await?;
    let (id, attempt) = (record.id.clone(), record::attempt_of(&record).to_owned());
    insert(shared, Served::new(container, record)).await;
    // It may have been removed, and forgotten, since its record was read.
    forget_unless_there(shared, ctx, &id, &attempt).await
}

/// The container of a record, if it is known already.
fn known(shared: &Shared, record: &Record) -> Option<Arc<Served>> {
    let served = shared.registry.get(&record.id)?;
    (served.container().attempt() == record::attempt_of(record)).then_some(served)
}

fn is_watched(served: &Served) -> bool {
    let run = served.container().run();
    run.is_some_and(|run| !run.is_ready() && run.exit_now().is_none_or(|exit| exit.code.is_some()))
}

/// Adds a container in place of an earlier one of its id, or of what was known of its run. One that is kept stays as it
/// is known: another look at it has added it in the meantime, and readers may have attached to it.
async fn insert(shared: &Arc<Shared>, served: Served) {
    let served = Arc::new(served);
    match shared.registry.insert_new(Arc::clone(&served)) {
        Ok(replaced) => {
            if let Some(replaced) = replaced {
                replaced.ends();
                replaced.container().leave().await;
            }
            look_after(shared, &served);
        }
        Err(twin) => twin.container().leave().await,
    }
}

/// Begins what a container's run needs.
fn look_after(shared: &Arc<Shared>, served: &Arc<Served>) {
    if custody::until_deadline(&served.record().labels, custody::now()).is_some() {
        shared.deadlines.notify_one();
    }
    streams::hold(served);
    names::open_later(shared, served);
    health::begin(shared, served);
    supervise::begin(shared, served);
}

async fn forget_unless_there(
    shared: &Shared,
    ctx: &Context,
    id: &ContainerId,
    attempt: &str,
) -> Result<Refreshed> {
    match find::get(&shared.deps, ctx, id).await {
        Ok(record) if record::attempt_of(&record) == attempt => Ok(Refreshed::Done),
        // Another one has its id by now, whose event follows.
        Ok(_) => Ok(Refreshed::Later),
        Err(error) if error.kind() == Kind::NotFound => {
            forget(shared, id).await;
            Ok(Refreshed::Done)
        }
        Err(error) => Err(error),
    }
}

async fn forget(shared: &Shared, id: &ContainerId) {
    shared.names.forget(id);
    let Some(served) = shared.registry.remove(id) else {
        return;
    };
    // Its process was killed a moment ago, and whoever waits for its removal is told the exit code.
    let alive = served.container().run().filter(|run| !run.is_ready());
    if let Some(run) = alive.filter(|run| run.exit_now().is_none()) {
        drop(tokio::time::timeout(EXIT, run.wait_exit()).await);
    }
    served.ends();
    served.container().leave().await;
}
