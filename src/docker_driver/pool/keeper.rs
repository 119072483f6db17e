//! Keeps the pool filled, and its slots alive: one task decides, and further tasks do everything that takes time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::making;
use super::{Means, Pool, Settings};
use crate::Context;
use crate::docker_driver::slot::Slot;
use crate::pauses::Pauses;
use crate::pool::{Chores, Rate};

/// How often the pool is maintained when nothing wakes its keeper.
const TICK: Duration = Duration::from_secs(1);
/// How many slots are begun at the same time.
const AT_ONCE: usize = 4;
/// The first and the longest pause before the engine is asked again whether a slot lives.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Starts the keeper on `tracker`. It ends with `life`, and then removes every slot that no container has.
pub(in crate::docker_driver) fn start(
    settings: Settings,
    means: Means,
    tracker: &TaskTracker,
    life: &Context,
) -> Pool {
    let pool = Pool::new(&settings);
    let keeper = Keeper {
        life: life.clone(),
        tasks: TaskTracker::new(),
        shared: Arc::new(Shared {
            pool: pool.clone(),
            on: Mutex::new(settings.networks().into_iter().map(|name| (name, 0)).collect()),
            rate: Mutex::new(Rate::new(Instant::now())),
            stuck: Mutex::default(),
            settings,
            means,
        }),
    };
    tracker.spawn(keeper.keep().in_current_span());
    pool
}

/// How many slots are on each network; `None` is the default.
type Spread = BTreeMap<Option<String>, usize>;

struct Keeper {
    life: Context,
    tasks: TaskTracker,
    shared: Arc<Shared>,
}

/// What the keeper's tasks share.
struct Shared {
    pool: Pool,
    settings: Settings,
    means: Means,
    on: Mutex<Spread>,
    rate: Mutex<Rate>,
    /// Slots that could not be removed.
    stuck: Mutex<Vec<Slot>>,
}

impl Keeper {
    async fn keep(self) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            let tick = tokio::select! {
                biased;
                _ = self.life.done() => break,
                _ = ticks.tick() => true,
                () = self.shared.pool.slots.woken() => false,
            };
            if tick {
                for slot in std::mem::take(&mut *self.shared.stuck()) {
                    self.shared.pool.slots.stuck(slot);
                }
                // A function that still uses one loses its network; it was given up, and is being removed.
                self.shared.pool.slots.retire_abandoned(|_| true);
                self.retire_the_dead();
            }
            let most = self.shared.rate().allows(Instant::now());
            let Chores { wash, remove, make } = self.shared.pool.slots.chores(most.min(AT_ONCE), tick);
            for slot in wash {
                if slot.is_alive() {
                    self.shared.pool.slots.put(slot);
                } else {
                    self.shared.pool.slots.retire(slot);
                }
            }
            for slot in remove {
                let shared = Arc::clone(&self.shared);
                self.tasks
                    .spawn(async move { shared.discard(slot).await }.in_current_span());
            }
            self.shared.rate().spend(make);
            for _ in 0..make {
                self.make();
            }
        }
        self.end().await;
    }

    /// Gives up the slots whose container has ended while nobody used them. Each that is put back wakes the keeper, so
    /// this is done by the clock alone; a slot that is taken is looked at in any case.
    fn retire_the_dead(&self) {
        let pool = &self.shared.pool.slots;
        for _ in 0..pool.count_ready(|_| true) {
            let Some(slot) = pool.borrow() else { return };
            if slot.is_alive() {
                pool.put(slot);
            } else {
                tracing::warn!(
                    slot = slot.id(),
                    "the container of a prepared network has ended; replacing it"
                );
                pool.retire(slot);
            }
        }
    }

    /// Removes all slots that no container has, once no task of the keeper runs any more.
    async fn end(self) {
        self.shared.pool.slots.close();
        self.tasks.close();
        self.tasks.wait().await;
        self.shared.pool.slots.retire_abandoned(|_| true);
        let Chores { wash, remove, .. } = self.shared.pool.slots.chores(0, false);
        let stuck = std::mem::take(&mut *self.shared.stuck());
        let removing = TaskTracker::new();
        for slot in wash.into_iter().chain(remove).chain(stuck) {
            let shared = Arc::clone(&self.shared);
            removing.spawn(async move { drop(making::discard(&shared.means, slot).await) });
        }
        removing.close();
        removing.wait().await;
    }

    fn make(&self) {
        let (shared, life, tasks) = (Arc::clone(&self.shared), self.life.clone(), self.tasks.clone());
        let making = async move {
            let unmade = Unmade(Some(Arc::clone(&shared)));
            let network = shared.next_network();
            match making::make(&shared.means, &shared.settings, network.as_deref(), &life).await {
                Ok(slot) => {
                    unmade.made();
                    shared.rate().succeeded();
                    let watched = watch(Arc::clone(&shared), slot.clone(), life);
                    tasks.spawn(watched.in_current_span());
                    shared.pool.slots.put(slot);
                }
                Err(error) => {
                    shared.leave(network.as_deref());
                    shared.rate().failed(Instant::now());
                    if life.check().is_ok() {
                        tracing::warn!(error = error.report(), "cannot prepare a network for the pool");
                    }
                }
            }
        };
        self.tasks.spawn(making.in_current_span());
    }
}

/// Waits for the end of a slot's container. A slot in use is found dead when it comes back.
async fn watch(shared: Arc<Shared>, slot: Slot, life: Context) {
    let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
    loop {
        match life.run(making::watch(&shared.means, &slot)).await {
            Err(_) => return,
            Ok(Ok(())) => break,
            Ok(Err(failed)) => {
                tracing::debug!(slot = slot.id(), error = %crate::chain(&failed), "cannot watch a slot; trying again");
            }
        }
        if life.run(pauses.wait()).await.is_err() {
            return;
        }
    }
    slot.has_ended();
}

impl Shared {
    fn rate(&self) -> MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stuck(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on(&self) -> MutexGuard<'_, Spread> {
        self.on.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network with the fewest slots, which has one more from now on.
    fn next_network(&self) -> Option<String> {
        let mut on = self.on();
        let (name, count) = on.iter_mut().min_by_key(|(_, count)| **count)?;
        *count += 1;
        name.clone()
    }

    fn leave(&self, network: Option<&str>) {
        if let Some(count) = self.on().get_mut(&network.map(str::to_owned)) {
            *count = count.saturating_sub(1);
        }
    }

    async fn discard(&self, slot: Slot) {
        let network = slot.network().map(str::to_owned);
        match making::discard(&self.means, slot).await {
            Ok(()) => self.leave(network.as_deref()),
            Err(slot) => self.stuck().push(slot),
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
            shared.pool.slots.failed();
        }
    }
}
