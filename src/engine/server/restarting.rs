//! Starts containers again that have ended, as their restart policies say: after a pause when a run is over, and at once when
//! the server starts.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::served::{Restart, Served};
use super::shared::Shared;
use super::start_run::start_run;
use crate::Context;
use crate::engine::again::{NotStarted, StartedBy};
use crate::engine::error::{Kind, Result};
use crate::engine::kept::{self, LastRun, RunEnd};
use crate::engine::restart::{self, RestartPolicy};
use crate::engine::{find, record};

/// What has happened that a policy may answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    RunOver,
    ServerStart,
}

/// Looks at every container when the server starts.
pub(super) fn at_start(shared: &Arc<Shared>) {
    for served in shared.registry.all() {
        follow_policy(shared, &served, Cause::ServerStart, None);
    }
}

/// Shows a container as one that is about to be started again, from the moment that its process has ended with this code:
/// before the end is on the record, a user may stop it.
pub(super) fn expect(served: &Arc<Served>, code: Option<u32>) -> Option<Restart> {
    let restarts = kept::restarts(&served.record());
    match policy_of(served).may_follow(code, restarts) {
        true => served.begin_restart(),
        false => None,
    }
}

fn policy_of(served: &Served) -> RestartPolicy {
    served.plan().map(|plan| plan.restart).unwrap_or_default()
}

/// Looks at a container whose run is over and settled. `restart` is what [`expect`] has returned.
pub(super) fn follow_policy(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    cause: Cause,
    restart: Option<Restart>,
) {
    // Most containers have no policy, and need no task. Before the server's front door is open, the look at its start is
    // still to come.
    if policy_of(served) == RestartPolicy::No || !shared.starter.is_open() {
        return;
    }
    let Some(restart) = restart.or_else(|| served.begin_restart()) else {
        return;
    };
    let (this, served) = (Arc::clone(shared), Arc::clone(served));
    let work = async move {
        let life = this.life.clone();
        let _ = life.run(again(&this, &served, cause, &restart)).await;
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
}

/// Starts a container again, until it runs or its policy says no.
async fn again(shared: &Arc<Shared>, served: &Arc<Served>, cause: Cause, restart: &Restart) {
    let mut has_failed = false;
    loop {
        let pause = match pause(shared, served, cause, has_failed).await {
            Ok(None) => {
                served.set_last_pause(None);
                return;
            }
            Ok(Some(pause)) => pause,
            // containerd is away, for example.
            Err(error) => {
                tracing::debug!(id = %served.id(), error = %crate::chain(&error), "cannot look at a container that is to be started again; trying again");
                restart::pause(Duration::ZERO, served.last_pause())
            }
        };
        served.set_last_pause(Some(pause));
        if restart.ctx().run(tokio::time::sleep(pause)).await.is_err() {
            return;
        }
        let by = match cause {
            Cause::ServerStart => StartedBy::Server,
            Cause::RunOver => StartedBy::Policy,
        };
        if start(shared, served, by).await {
            return;
        }
        has_failed = true;
    }
}

/// How long to wait before the next try; `None` if there is none, because the container runs, is gone, or its policy says so.
async fn pause(shared: &Shared, served: &Served, cause: Cause, has_failed: bool) -> Result<Option<Duration>> {
    let ctx = Context::timeout(shared.deps.config.close_grace);
    let record = match find::get(&shared.deps, &ctx, served.id()).await {
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        found => found?,
    };
    let attempt = served.container().attempt();
    let is_gone =
        record::attempt_of(&record) != attempt || shared.deps.is_being_removed(served.id(), attempt);
    let Some(LastRun::Ended(end)) = kept::last_run(&record).filter(|_| !is_gone) else {
        return Ok(None);
    };
    let (policy, restarts) = (kept::plan_of(&record)?.restart, kept::restarts(&record));
    let follows = match cause {
        Cause::ServerStart => policy.at_start(end.code, restarts),
        Cause::RunOver => policy.may_follow(end.code, restarts),
    };
    // A start that has failed, as when its port is taken, counts as a run that was over at once.
    let (took, last) = match has_failed {
        true => (Duration::ZERO, served.last_pause()),
        false => (took(&end), served.last_pause()),
    };
    Ok(follows.then(|| match (cause, has_failed) {
        (Cause::ServerStart, false) => Duration::ZERO,
        _ => restart::pause(took, last),
    }))
}

/// Returns whether the container runs.
async fn start(shared: &Arc<Shared>, served: &Arc<Served>, by: StartedBy) -> bool {
    if let Some(starter) = shared.starter.get() {
        return starter(Arc::clone(served), by).await;
    }
    let same = |_, streams| std::future::ready(Ok(streams));
    match start_run(shared, &Context::new(), served, (false, by), same).await {
        Ok(()) => true,
        Err(error) => {
            let runs = NotStarted::is_because_it_runs(&error);
            if !runs {
                tracing::warn!(id = %served.id(), error = %crate::chain(&error), "cannot start a container again");
            }
            runs
        }
    }
}

/// How long a run took.
fn took(end: &RunEnd) -> Duration {
    let times = end.started_at.zip(end.ended_at);
    times
        .and_then(|(start, end)| end.duration_since(start).ok())
        .unwrap_or_default()
}
