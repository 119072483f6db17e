//! Starts a run whose streams the server holds.

use std::sync::{Arc, OnceLock};

use super::names;
use super::served::Served;
use super::shared::Shared;
use crate::Context;
use crate::engine::again::{NotStarted, StartedBy};
use crate::engine::custody::Custody;
use crate::engine::error::Result;
use crate::stdio::Streams;

/// What a server leaves running when it ends.
const LEFT: Custody = Custody {
    detached: true,
    limit: None,
};

/// Starts a container that does not run. Its output goes to those who have attached; with `is_fed`, its input comes from
/// them. `streams` may change the streams of the run before it begins. If the start fails, those who have attached get
/// the end of the output.
///
/// # Cancellation
/// Safe to drop: the start is undone on its own task.
pub(super) async fn start_run<F>(
    shared: &Arc<Shared>,
    ctx: &Context,
    served: &Arc<Served>,
    (is_fed, by): (bool, StartedBy),
    streams: impl FnOnce(Context, Streams) -> F + Send + 'static,
) -> Result<()>
where
    F: Future<Output = Result<Streams>> + Send + 'static,
{
    // Those who read the output of the last run get all of it first.
    if let Some(run) = served.container().run().filter(|run| run.exit_now().is_some()) {
        served.delivered(&run, &shared.life).await;
    }
    let own = match is_fed {
        true => served.streams().clone(),
        false => served.streams().without_input(),
    };
    let (of_run, plan) = (own.clone(), served.plan());
    let terminal = plan.is_ok_and(|plan| plan.config.terminal);
    let (this, named) = (Arc::clone(shared), Arc::clone(served));
    let opened = Arc::new(OnceLock::new());
    let note = Arc::clone(&opened);
    let started = served.container().start(ctx, LEFT, by, move |ctx| async move {
        // Its network is made by now, and its process does not run yet.
        if let Some(sandbox) = names::open(&this, &named).await? {
            drop(note.set(sandbox));
        }
        streams(ctx, of_run.streams(terminal)).await
    });
    let run = match started.await {
        Ok(run) => run,
        Err(error) => {
            if let Some(sandbox) = opened.get() {
                shared.names.close(served.id(), sandbox);
            }
            if !NotStarted::is_because_it_runs(&error) {
                served.streams().end();
            }
            return Err(error);
        }
    };
    if by == StartedBy::User {
        served.cancel_restart();
        served.set_last_pause(None);
    }
    served.set_needless(&run);
    if let Err(error) = run.share(&own) {
        tracing::warn!(id = %served.id(), error = %crate::chain(&error), "other processes cannot attach to the container");
    }
    Ok(())
}
