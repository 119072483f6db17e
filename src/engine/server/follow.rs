//! Follows what this process and others change: containerd reports every change of a record and every start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::restore::{self, Refreshed, Restored};
use super::shared::Shared;
use crate::ContainerId;
use crate::pauses::Pauses;

/// How long changes of a container are collected before it is looked at: a start makes three of them.
const BATCH: Duration = Duration::from_millis(5);
/// The pause before a container is looked at again that could not be looked at; doubles up to [`MAX_AGAIN`].
const AGAIN: Duration = Duration::from_millis(50);
const MAX_AGAIN: Duration = Duration::from_secs(5);
/// First pause before subscribing again after the stream broke; doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Starts to follow, until the server ends.
pub(super) fn start(shared: &Arc<Shared>, restored: Restored) {
    let this = Arc::clone(shared);
    let work = async move {
        let life = this.life.clone();
        // The server has ended.
        let _ = life.run(follow(&this, restored)).await;
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
}

async fn follow(shared: &Arc<Shared>, mut restored: Restored) {
    loop {
        read(shared, restored).await;
        let mut pauses = Pauses::new(MIN_PAUSE, MAX_PAUSE);
        restored = loop {
            pauses.wait().await;
            let ctx = shared.life.with_timeout(shared.deps.config.close_grace);
            match restore::restore(shared, &ctx).await {
                Ok(restored) => break restored,
                Err(error) => {
                    tracing::debug!(error = %crate::chain(&error), "cannot look at the containers; trying again");
                }
            }
        };
    }
}

/// Reads changes until the stream breaks.
async fn read(shared: &Arc<Shared>, restored: Restored) {
    let Restored {
        mut changes,
        again: mut changed,
    } = restored;
    let fresh = Pauses::new(AGAIN, MAX_AGAIN);
    let mut pauses = fresh.clone();
    let mut due = (!changed.is_empty()).then(Instant::now);
    loop {
        let at = due.unwrap_or_else(Instant::now);
        tokio::select! {
            next = changes.next(&shared.life) => match next {
                Ok(id) => {
                    // containerd allows names that are none of ours.
                    changed.extend(ContainerId::new(id));
                    due = due.or_else(|| Some(Instant::now() + BATCH));
                }
                Err(error) => {
                    tracing::debug!(%error, "containerd's events have ended; subscribing again");
                    return;
                }
            },
            () = tokio::time::sleep_until(at), if due.is_some() => {
                changed = refresh_all(shared, std::mem::take(&mut changed)).await;
                due = match changed.is_empty() {
                    true => {
                        pauses.clone_from(&fresh);
                        None
                    }
                    false => Some(Instant::now() + pauses.pause()),
                };
            }
        }
    }
}

/// Looks at containers; returns those that are to be looked at again.
async fn refresh_all(shared: &Arc<Shared>, changed: BTreeSet<ContainerId>) -> BTreeSet<ContainerId> {
    let mut again = BTreeSet::new();
    for id in changed {
        let ctx = shared.life.with_timeout(shared.deps.config.close_grace);
        match restore::refresh(shared, &ctx, &id).await {
            Ok(Refreshed::Done) => {}
            Ok(Refreshed::Later) => drop(again.insert(id)),
            Err(error) => {
                tracing::debug!(%id, error = %crate::chain(&error), "cannot look at a container; trying again");
                again.insert(id);
            }
        }
    }
    again
}
