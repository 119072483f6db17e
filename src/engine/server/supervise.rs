//! Writes the end of each run down at once, ends containers at their deadline whose owner is gone, and takes over the
//! streams of owners that are gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::restarting::Cause;
use super::served::Served;
use super::shared::Shared;
use super::{restarting, streams};
use crate::Context;
use crate::engine::abandoned::{self, Need};
use crate::engine::custody;
use crate::engine::error::{Kind, Result};
use crate::engine::run::Run;
use crate::engine::{find, kept, label, network, record};
use crate::pauses::Pauses;

/// The longest pause between two looks at all containers: an owner that runs now may be killed later.
const AGAIN: Duration = Duration::from_secs(10);
/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How often streams that no process holds are looked for.
const HOLD: Duration = Duration::from_secs(1);
/// The pause before what a container needs is tried again; doubles up to [`AGAIN`].
const RETRY: Duration = Duration::from_millis(100);

/// Starts to look at all containers again and again, until the server ends.
pub(super) fn start(shared: &Arc<Shared>) {
    let this = Arc::clone(shared);
    let work = async move {
        let life = this.life.clone();
        let look = async {
            let mut next = Instant::now() + until_next(&this);
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => {
                        look_at_all(&this, Cause::RunOver);
                        next = Instant::now() + until_next(&this);
                    }
                    () = this.deadlines.notified() => next = next.min(Instant::now() + until_next(&this)),
                }
            }
        };
        // The server has ended.
        let _ = life.run(look).await;
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
    let this = Arc::clone(shared);
    let work = async move {
        let life = this.life.clone();
        while life.run(tokio::time::sleep(HOLD)).await.is_ok() {
            this.registry
                .all()
                .iter()
                .for_each(|served| streams::hold(served));
        }
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
}

/// Does what any container needs.
pub(super) fn look_at_all(shared: &Arc<Shared>, cause: Cause) {
    for served in shared.registry.all() {
        look_at(shared, served, cause);
    }
}

/// Does what a container needs on a task of its own, so that one that is stuck delays no other.
fn look_at(shared: &Arc<Shared>, served: Arc<Served>, cause: Cause) {
    let record = served.record();
    let may_need =
        kept::has_run(&record) || custody::until_deadline(&record.labels, custody::now()).is_some();
    let Some(turn) = may_need.then(|| served.take_turn()).flatten() else {
        return;
    };
    let this = Arc::clone(shared);
    let work = async move {
        let _turn = turn;
        if let Err(error) = tend(&this, &served, cause).await {
            tracing::warn!(id = %served.id(), error = %crate::chain(&error), "cannot look after a container; trying again");
        }
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
}

/// The time until the next deadline of a container, within bounds. One that has passed is the owner's to keep, or could
/// not be kept; it is looked at again after the longest pause.
fn until_next(shared: &Shared) -> Duration {
    let now = custody::now();
    let all = shared.registry.all();
    let deadlines = all
        .iter()
        .filter_map(|served| custody::until_deadline(&served.record().labels, now));
    let next = deadlines.filter(|left| !left.is_zero()).min();
    next.map_or(AGAIN, |left| left.clamp(PAUSE, AGAIN))
}

/// Waits for the end of a container's run on a task of its own, unless one does so already.
pub(super) fn begin(shared: &Arc<Shared>, served: &Arc<Served>) {
    let Some(run) = served.run_to_supervise() else {
        return;
    };
    // The container may have another one by the time at which the end of this run is known.
    let sandbox = network::sandbox_of(&served.record()).map(str::to_owned);
    let (this, served) = (Arc::clone(shared), Arc::clone(served));
    let work = async move {
        let life = this.life.clone();
        let supervise = async {
            let Some(exit) = run.wait_exit().await else {
                return;
            };
            if let Some(sandbox) = sandbox {
                this.names.close(served.id(), &sandbox);
            }
            let restart = restarting::expect(&served, exit.code);
            served.delivered(&run, &life).await;
            if !is_left_to_the_server(&served, &run) {
                return;
            }
            drop(run);
            let mut pauses = Pauses::new(RETRY, AGAIN);
            // Until all of the run is removed: its end may be on the record after the first attempt.
            while let Err(error) = settle(&this, &served).await {
                tracing::warn!(id = %served.id(), error = %crate::chain(&error), "cannot write down how a container ended; trying again");
                pauses.wait().await;
            }
            restarting::follow_policy(&this, &served, Cause::RunOver, restart);
        };
        let _ = life.run(supervise).await;
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
}

/// Whether the end of a container's run is the server's to write, and not its owner's. A run whose exit code is unknown
/// may be one that has no task yet, or whose processes containerd has lost: they are the user's to end.
fn is_left_to_the_server(served: &Served, run: &Run) -> bool {
    let record = served.record();
    let is_known = run.exit_now().is_some_and(|exit| exit.code.is_some());
    if !kept::has_run(&record) || !is_known {
        return false;
    }
    record.labels.contains_key(label::DETACHED) || custody::owner_is_gone(&record.labels)
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

/// Does what a container needs now, if anything. The record is read again: another process may have settled, started or
/// replaced the container since the server last heard of it.
async fn tend(shared: &Arc<Shared>, served: &Arc<Served>, cause: Cause) -> Result<()> {
    let ctx = Context::timeout(shared.deps.config.close_grace);
    let record = match find::get(&shared.deps, &ctx, served.id()).await {
        Err(error) if error.kind() == Kind::NotFound => return Ok(()),
        found => found?,
    };
    if record::attempt_of(&record) != served.container().attempt() {
        return Ok(());
    }
    match abandoned::need_of(&shared.deps, &record).await? {
        None => Ok(()),
        Some(Need::Settle) => {
            settle(shared, served).await?;
            restarting::follow_policy(shared, served, cause, None);
            Ok(())
        }
        Some(Need::End) => unless_done(abandoned::mend(&shared.deps, &ctx, &record, Need::End).await),
    }
}
