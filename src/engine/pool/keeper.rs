//! Keeps the pool filled, and its slots clean and usable: one task decides, and further tasks do everything that takes
//! time.
//!
//! A slot that comes back is examined ("washed") before it is used again. If a process is still in it (of a container
//! that shared it, for example), no container gets it any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::making::{self, PATIENCE};
use crate::Context;
use crate::engine::slot::{Slot, Spoiled};
use crate::engine::{Deps, PoolConfig, host};
use crate::metrics::RetryReason;
use crate::pool::{Chores, Pool, Rate};
use crate::sandbox::Sandboxes;

/// How often the pool is maintained when nothing wakes its keeper.
const TICK: Duration = Duration::from_secs(1);
/// How often the plugins check one idle slot, and slots that could not be removed are tried again.
const CHECK: Duration = Duration::from_secs(10);
/// How many slots the keeper begins to make at the same time.
const AT_ONCE: usize = 4;

/// Starts the keeper of the pool. It ends with the engine, and then removes every slot that no container has.
pub(in crate::engine) fn start(deps: &Arc<Deps>, config: PoolConfig) {
    let Some(pool) = deps.networks.pool.clone() else {
        return;
    };
    let keeper = Keeper {
        deps: Arc::downgrade(deps),
        life: deps.background.life.clone(),
        tasks: TaskTracker::new(),
        shared: Arc::new(Shared {
            pool,
            spoiled: deps.networks.spoiled.clone(),
            config,
            rate: Mutex::new(Rate::new(Instant::now())),
            checking: AtomicBool::new(false),
            stuck: Mutex::new(Vec::new()),
        }),
    };
    deps.background.tracker.spawn(keeper.keep().in_current_span());
}

struct Keeper {
    /// Weak: the pool ends with the engine, and must not keep it alive.
    deps: Weak<Deps>,
    life: Context,
    tasks: TaskTracker,
    shared: Arc<Shared>,
}

/// What the keeper's tasks share.
struct Shared {
    pool: Pool<Slot>,
    spoiled: Spoiled,
    config: PoolConfig,
    rate: Mutex<Rate>,
    checking: AtomicBool,
    /// Slots that could not be removed.
    stuck: Mutex<Vec<Slot>>,
}

impl Keeper {
    async fn keep(self) {
        let mut checked = Instant::now();
        let mut ticks = tokio::time::interval(TICK);
        let mut sandboxes = None;
        loop {
            let tick = tokio::select! {
                biased;
                _ = self.life.done() => break,
                _ = ticks.tick() => true,
                () = self.shared.pool.woken() => false,
            };
            let Some(deps) = self.deps.upgrade() else { break };
            if tick && checked.elapsed() >= CHECK {
                checked = Instant::now();
                self.look_around(&deps);
            }
            let most = self.shared.rate().allows(Instant::now());
            let Chores { wash, remove, make } = self.shared.pool.chores(most.min(AT_ONCE), tick);
            self.wash(wash);
            for slot in remove {
                self.remove(&deps, slot);
            }
            if make > 0 {
                sandboxes = deps.sandboxes().await.ok();
                self.shared.rate().spend(make);
                for _ in 0..make {
                    self.make(&deps);
                }
            }
        }
        self.end(sandboxes).await;
    }

    /// Removes all slots that no container has, once no task of the keeper runs any more.
    async fn end(self, sandboxes: Option<Sandboxes>) {
        self.shared.pool.close();
        self.tasks.close();
        self.tasks.wait().await;
        let Chores { wash, remove, .. } = self.shared.pool.chores(0, false);
        let stuck = std::mem::take(&mut *self.shared.stuck());
        let (deps, removing) = (self.deps.upgrade(), TaskTracker::new());
        for slot in wash.into_iter().chain(remove).chain(stuck) {
            match (&deps, &sandboxes) {
                (Some(deps), _) => {
                    let deps = Arc::clone(deps);
                    removing.spawn(async move { drop(making::discard(&deps, slot).await) }.in_current_span());
                }
                // The engine was dropped without a close. A resident is left to the next start.
                (None, Some(sandboxes)) if slot.resident.is_none() => {
                    making::remove(sandboxes, &slot.sandbox.id).await;
                }
                _ => {}
            }
        }
        drop(deps);
        removing.close();
        removing.wait().await;
    }

    fn make(&self, deps: &Arc<Deps>) {
        let (deps, shared) = (Arc::clone(deps), Arc::clone(&self.shared));
        let making = async move {
            let unmade = Unmade(Some(Arc::clone(&shared)));
            match making::make(&deps, &shared.config).await {
                Ok(slot) => {
                    unmade.made();
                    shared.rate().succeeded();
                    shared.pool.put(slot);
                }
                Err(error) => {
                    shared.rate().failed(Instant::now());
                    if deps.background.life.check().is_ok() {
                        let error = crate::chain(&error);
                        tracing::warn!(error, "cannot prepare a network namespace for the pool");
                        deps.metrics().retry(RetryReason::PoolNetwork);
                    }
                }
            }
        };
        self.tasks.spawn(making.in_current_span());
    }

    /// Examines slots that came back. A slot that is broken, or in which a process still is, is given up.
    fn wash(&self, slots: Vec<Slot>) {
        if slots.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn_blocking(move || {
            let occupants = host::occupants();
            for mut slot in slots {
                slot.uses += 1;
                let is_clean = !shared.spoiled.take(&slot) && !slot.is_occupied(&occupants);
                if is_clean && slot.is_fit() {
                    shared.pool.put(slot);
                } else {
                    shared.pool.retire(slot);
                }
            }
        });
    }

    fn remove(&self, deps: &Arc<Deps>, slot: Slot) {
        let (deps, shared) = (Arc::clone(deps), Arc::clone(&self.shared));
        let removing = async move {
            if let Err(slot) = making::discard(&deps, slot).await {
                shared.stuck().push(slot);
            }
        };
        self.tasks.spawn(removing.in_current_span());
    }

    /// Does the rare work: the plugins check one idle slot, slots that could not be removed are tried again, and slots
    /// that were given up in use are removed once no process is in them.
    fn look_around(&self, deps: &Arc<Deps>) {
        for slot in std::mem::take(&mut *self.shared.stuck()) {
            deps.metrics().retry(RetryReason::PoolNetwork);
            self.shared.pool.stuck(slot);
        }
        if self.shared.pool.has_abandoned() {
            let shared = Arc::clone(&self.shared);
            self.tasks.spawn_blocking(move || {
                let occupants = host::occupants();
                shared.pool.retire_abandoned(|slot| !slot.is_occupied(&occupants));
            });
        }
        if self.shared.checking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (deps, shared, life) = (Arc::clone(deps), Arc::clone(&self.shared), self.life.clone());
        let checking = async move {
            shared.check_one(&deps, &life).await;
            shared.checking.store(false, Ordering::Release);
        };
        self.tasks.spawn(checking.in_current_span());
    }
}

impl Shared {
    fn rate(&self) -> MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stuck(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the plugins check the slot that has been idle longest.
    async fn check_one(&self, deps: &Arc<Deps>, life: &Context) {
        let Some(slot) = self.pool.borrow() else { return };
        let ctx = life.with_timeout(PATIENCE);
        let sound = match deps.sandboxes().await {
            Ok(sandboxes) => sandboxes.check(&ctx, &slot.sandbox.id).await,
            Err(error) => Err(error),
        };
        match sound {
            Ok(()) if slot.is_fit() => self.pool.put(slot),
            Err(error) if error.interrupted().is_some() => self.pool.put(slot),
            checked => {
                let why = checked.err().map(|error| crate::chain(&error));
                tracing::warn!(
                    slot = slot.sandbox.id,
                    why,
                    "a prepared network namespace is dead; replacing it"
                );
                self.pool.retire(slot);
            }
        }
    }
}

/// Notifies the pool that a slot is not coming, even if the task that makes it panics.
struct Unmade(Option<Arc<Shared>>);

impl Unmade {
    fn made(mut self) {
        self.0 = None;
    }
}

impl Drop for Unmade {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.pool.failed();
        }
    }
}
