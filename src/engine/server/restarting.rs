//! Starts containers again that have ended, as their restart policies say: after a pause when a run is over, and at once when
//! the server starts.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::served::Served;
use super::shared::Shared;
use super::start_run::start_run;
use crate::Context;
use crate::engine::again::{NotStarted, StartedBy};
use crate::engine::error::{Kind, Result};
use crate::engine::kept::{self, LastRun, RunEnd};
use crate::engine::restart::{RestartPolicy, RunOver};
use crate::engine::{find, record};

/// What has happened that a policy may answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    RunOver,
    ServerStart,
}

/// Looks at every container when the server starts.
pub(super) fn at_start(shared: &Arc<Shared>) {
    for served in shared.registry.all() {
        spawn(shared, served, Cause::ServerStart);
    }
}

/// Looks at a container whose run is over and settled.
pub(super) fn after_run(shared: &Arc<Shared>, served: &Arc<Served>) {
    spawn(shared, Arc::clone(served), Cause::RunOver);
}

/// Most containers have no policy, and need no task.
fn spawn(shared: &Arc<Shared>, served: Arc<Served>, cause: Cause) {
    let has_policy = served.plan().is_ok_and(|plan| plan.restart != RestartPolicy::No);
    if !has_policy {
        return;
    }
    let this = Arc::clone(shared);
    let work = async move {
        let life = this.life.clone();
        let again = async {
            if let Err(error) = again(&this, &served, cause).await
                && !matches!(error.kind(), Kind::NotFound | Kind::OutOfOrder)
            {
                tracing::warn!(id = %served.id(), error = %crate::chain(&error), "cannot start a container again");
            }
        };
        let _ = life.run(again).await;
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
}

/// Starts a container again, until it runs or its policy says no.
async fn again(shared: &Arc<Shared>, served: &Arc<Served>, cause: Cause) -> Result<()> {
    let mut cause = cause;
    loop {
        let ctx = Context::timeout(shared.deps.config.close_grace);
        let record = find::get(&shared.deps, &ctx, served.id()).await?;
        if record::attempt_of(&record) != served.container().attempt() {
            return Ok(());
        }
        let Some(LastRun::Ended(end)) = kept::last_run(&record) else {
            return Ok(());
        };
        let (policy, restarts) = (kept::plan_of(&record)?.restart, kept::restarts(&record));
        let (pause, by) = match cause {
            Cause::ServerStart => {
                let starts = policy.at_start(end.code, restarts);
                (starts.then_some(Duration::ZERO), StartedBy::Server)
            }
            Cause::RunOver => {
                let pause = policy.after(over(&end), restarts, served.last_pause());
                (pause, StartedBy::Policy)
            }
        };
        served.set_last_pause(pause);
        let Some(pause) = pause else { return Ok(()) };
        let Some(restart) = served.begin_restart() else {
            return Ok(());
        };
        if restart.ctx().run(tokio::time::sleep(pause)).await.is_err() {
            return Ok(());
        }
        if start(shared, served, by).await {
            return Ok(());
        }
        // One that cannot be started, as when its port is taken, is tried again as if it had failed at once.
        cause = Cause::RunOver;
        if matches!(policy, RestartPolicy::OnFailure { .. }) {
            return Ok(());
        }
    }
}

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
            runs || matches!(error.kind(), Kind::NotFound | Kind::OutOfOrder)
        }
    }
}

fn over(end: &RunEnd) -> RunOver {
    let took = end.started_at.zip(end.ended_at);
    RunOver {
        code: end.code,
        took: took
            .and_then(|(start, end)| end.duration_since(start).ok())
            .unwrap_or_default(),
    }
}
