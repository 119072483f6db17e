//! Follows what this process and others change: containerd reports every change of a record and every start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::restore::{self, Refreshed, Restored};
use super::shared::Shared;
use crate::ContainerId;
use crate::pauses::Pauses;

/// How long changes of a container are collected before it is looked at: a start makes three of them.
const BATCH: Duration = Duration::from_millis(5);
/// The pause before a container is looked at again that could not be looked at; doubles up to [`MAX_AGAIN`] for each.
const AGAIN: Duration = Duration::from_millis(50);
const MAX_AGAIN: Duration = Duration::from_secs(5);
/// How many containers are looked at at the same time.
const AT_ONCE: usize = 16;
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
    let mut batch = (!changed.is_empty()).then(Instant::now);
    // One that has to wait, or does not answer, delays no other.
    let mut waiting = BTreeMap::<ContainerId, (Instant, Pauses)>::new();
    let (mut looks, mut looked_at) = (FuturesUnordered::new(), BTreeSet::new());
    // Changed during a look at them.
    let mut meanwhile = BTreeSet::new();
    loop {
        let idle = waiting.iter().filter(|(id, _)| !looked_at.contains(*id));
        let first = idle.map(|(_, (at, _))| *at).min();
        let due = batch.into_iter().chain(first).min();
        tokio::select! {
            next = changes.next(&shared.life) => match next {
                Ok(id) => {
                    // containerd allows names that are none of ours.
                    changed.extend(ContainerId::new(id));
                    batch = batch.or_else(|| Some(Instant::now() + BATCH));
                }
                Err(error) => {
                    tracing::debug!(%error, "containerd's events have ended; subscribing again");
                    return;
                }
            },
            Some(looked) = looks.next(), if !looks.is_empty() => {
                let (id, is_done): (ContainerId, bool) = looked;
                looked_at.remove(&id);
                if meanwhile.remove(&id) {
                    changed.insert(id.clone());
                    batch = batch.or_else(|| Some(Instant::now() + BATCH));
                }
                match is_done {
                    true => drop(waiting.remove(&id)),
                    false => wait(&mut waiting, id),
                }
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && looks.len() < AT_ONCE => {
                let now = Instant::now();
                let over = waiting.iter().filter(|(id, (at, _))| *at <= now && !looked_at.contains(*id));
                changed.extend(over.map(|(id, _)| id.clone()));
                while looks.len() < AT_ONCE && let Some(id) = changed.pop_first() {
                    match looked_at.insert(id.clone()) {
                        true => looks.push(look(shared, id)),
                        false => drop(meanwhile.insert(id)),
                    }
                }
                // Those that found no room are looked at as soon as there is some.
                batch = (!changed.is_empty()).then_some(now);
            }
        }
    }
}

/// Lets a container wait for another look.
fn wait(waiting: &mut BTreeMap<ContainerId, (Instant, Pauses)>, id: ContainerId) {
    let fresh = || (Instant::now(), Pauses::new(AGAIN, MAX_AGAIN));
    let (at, pauses) = waiting.entry(id).or_insert_with(fresh);
    *at = Instant::now() + pauses.pause();
}

/// Looks at a container; returns whether it need not be looked at again.
async fn look(shared: &Arc<Shared>, id: ContainerId) -> (ContainerId, bool) {
    let ctx = shared.life.with_timeout(shared.deps.config.close_grace);
    let is_done = match restore::refresh(shared, &ctx, &id).await {
        Ok(Refreshed::Done) => true,
        Ok(Refreshed::Later) => false,
        Err(error) => {
            tracing::debug!(%id, error = %crate::chain(&error), "cannot look at a container; trying again");
            false
        }
    };
    (id, is_done)
}
