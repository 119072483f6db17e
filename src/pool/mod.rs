//! Slots made ahead: taken in constant time, and given back or replaced in the background.
//!
//! ```text
//!             put                 take                    give back
//!   (made) ────────► ready ─────────────► leased ─┬─────────────────► used ──(washed)──► ready
//!                      │                          │ once only, broken,
//!                      └── shrunk, dead ──► retired ◄─ or dropped ────┘ ──(removed)──► gone
//! ```
//!
//! The pool does no I/O and starts no tasks: it only stores slots, and [`Size`] and [`Rate`] are the rules for making
//! them. The owner of a pool asks it for pending work ([`Pool::chores`]), and does that work outside of the caller's
//! path.

mod rate;
mod size;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(crate) use rate::Rate;
pub(crate) use size::{Bounds, Size};

use crate::metrics::PoolCounts;

/// No more slots than this exist at once, those in use included: a bridge of the kernel has 1024 ports.
pub(crate) const MOST: usize = 1000;
/// Smaller pools never wait: their last slot is gone too soon.
const LEISURE: usize = 4;

/// A shelf of slots. Clones share the same shelf.
#[derive(Debug)]
pub(crate) struct Pool<T>(Arc<Shared<T>>);

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<T> {
    /// Whether a slot serves only one container. One that is leased is then replaced at once, because it does not come
    /// back: the pool's size is that of its stock, not of its stock and its leases together.
    once: bool,
    shelf: Mutex<Shelf<T>>,
    /// Notified when there may be work to do.
    wake: Notify,
}

#[derive(Debug)]
struct Shelf<T> {
    ready: VecDeque<T>,
    used: Vec<T>,
    retired: Vec<T>,
    /// Slots whose lease was dropped in use: a container may still run in them.
    abandoned: Vec<T>,
    leased: usize,
    /// Slots that are being made, washed or inspected.
    in_hand: usize,
    closed: bool,
    counts: PoolCounts,
    size: Size,
}

/// The pending work of a pool.
#[derive(Debug)]
pub(crate) struct Chores<T> {
    /// Slots to wash, and then to [`put`](Pool::put) back or to [`retire`](Pool::retire).
    pub(crate) wash: Vec<T>,
    /// Slots to remove.
    pub(crate) remove: Vec<T>,
    /// How many slots to make. Each ends with a [`put`](Pool::put) or a [`failed`](Pool::failed).
    pub(crate) make: usize,
}

impl<T> Pool<T> {
    pub(crate) fn new(bounds: Bounds, once: bool) -> Self {
        Self(Arc::new(Shared {
            once,
            shelf: Mutex::new(Shelf {
                ready: VecDeque::new(),
                used: Vec::new(),
                retired: Vec::new(),
                abandoned: Vec::new(),
                leased: 0,
                in_hand: 0,
                closed: false,
                counts: PoolCounts::default(),
                size: Size::new(bounds),
            }),
            wake: Notify::new(),
        }))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<T>> {
        self.0.shelf()
    }

    /// Whether a slot that comes back is used again.
    pub(crate) fn is_reused(&self) -> bool {
        !self.0.once
    }

    /// Takes the slot that has been ready longest and that `fits` accepts; slots that it rejects are retired. Returns
    /// `None`, and counts a miss, if no slot is ready. Takes constant time, except for rejected slots, each of which is
    /// met only once. `fits` runs without the lock.
    pub(crate) fn take(&self, fits: impl Fn(&T) -> bool) -> Option<Lease<T>> {
        loop {
            let mut lease = self.first()?;
            if lease.slot().is_some_and(&fits) {
                // Only now, because a count for monitoring must never fall.
                self.shelf().counts.hits += 1;
                return Some(lease);
            }
            if let Some(slot) = lease.slot.take() {
                let mut shelf = self.shelf();
                shelf.leased = shelf.leased.saturating_sub(1);
                shelf.counts.dead += 1;
                shelf.retired.push(slot);
                drop(shelf);
                self.0.wake.notify_one();
            }
        }
    }

    fn first(&self) -> Option<Lease<T>> {
        let mut shelf = self.shelf();
        let Some(slot) = shelf.ready.pop_front() else {
            shelf.counts.misses += 1;
            shelf.size.missed();
            drop(shelf);
            self.0.wake.notify_one();
            return None;
        };
        shelf.leased += 1;
        let left = shelf.ready.len();
        shelf.size.took(left);
        drop(shelf);
        if self.0.once {
            self.0.wake.notify_one();
        }
        Some(Lease {
            slot: Some(slot),
            shared: Arc::clone(&self.0),
            touched: false,
        })
    }

    /// Puts a slot that was made or washed on the shelf.
    pub(crate) fn put(&self, slot: T) {
        let mut shelf = self.shelf();
        shelf.in_hand = shelf.in_hand.saturating_sub(1);
        if shelf.closed {
            shelf.retired.push(slot);
        } else {
            shelf.ready.push_back(slot);
        }
        drop(shelf);
        self.0.wake.notify_one();
    }

    /// Retires a slot that turned out to be dead when it was washed or inspected.
    pub(crate) fn retire(&self, slot: T) {
        let mut shelf = self.shelf();
        shelf.in_hand = shelf.in_hand.saturating_sub(1);
        shelf.counts.dead += 1;
        shelf.retired.push(slot);
        drop(shelf);
        self.0.wake.notify_one();
    }

    /// Records that a slot could not be made, or that it no longer exists.
    pub(crate) fn failed(&self) {
        let mut shelf = self.shelf();
        shelf.in_hand = shelf.in_hand.saturating_sub(1);
    }

    /// Takes the slot that has been ready longest, to be inspected and then [`put`](Self::put) back or
    /// [`retire`](Self::retire)d.
    pub(crate) fn borrow(&self) -> Option<T> {
        let mut shelf = self.shelf();
        let slot = shelf.ready.pop_front()?;
        shelf.in_hand += 1;
        Some(slot)
    }

    /// Returns the work that is pending now, with at most `most` slots to make. With `tick`, the clock of [`Size`]
    /// advances.
    ///
    /// Slots for one use are made and removed all the time, which takes the processor from the containers that use them. So
    /// this waits for the next tick while at least half of them are ready, and those are not few.
    pub(crate) fn chores(&self, most: usize, tick: bool) -> Chores<T> {
        let mut shelf = self.shelf();
        if tick {
            shelf.size.tick();
        }
        let target = if shelf.closed { 0 } else { shelf.size.target() };
        let wash = std::mem::take(&mut shelf.used);
        shelf.in_hand += wash.len();
        let come_back = if self.0.once { 0 } else { shelf.leased };
        let total = shelf.ready.len() + shelf.in_hand + come_back;
        let is_at_leisure = self.0.once && target >= LEISURE && shelf.ready.len() * 2 >= target;
        if is_at_leisure && !tick && !shelf.closed {
            return Chores {
                wash,
                remove: Vec::new(),
                make: 0,
            };
        }
        for _ in target..total {
            let Some(slot) = shelf.ready.pop_front() else {
                break;
            };
            shelf.retired.push(slot);
        }
        let room = MOST.saturating_sub(shelf.ready.len() + shelf.in_hand + shelf.leased);
        let make = target.saturating_sub(total).min(most).min(room);
        shelf.in_hand += make;
        Chores {
            wash,
            remove: std::mem::take(&mut shelf.retired),
            make,
        }
    }

    /// Completes when there may be work to do.
    pub(crate) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Retires every slot on the shelf, and no slot is taken or made any more. A slot that is leased now is returned by
    /// [`Lease::give_back`], for the caller to remove.
    pub(crate) fn close(&self) {
        let mut shelf = self.shelf();
        shelf.closed = true;
        let (ready, used) = (std::mem::take(&mut shelf.ready), std::mem::take(&mut shelf.used));
        shelf.retired.extend(ready);
        shelf.retired.extend(used);
    }

    /// Retires the slots that were dropped in use and that `is_deserted` reports as empty.
    pub(crate) fn retire_abandoned(&self, is_deserted: impl Fn(&T) -> bool) {
        let mut shelf = self.shelf();
        let deserted: Vec<_> = shelf.abandoned.extract_if(.., |slot| is_deserted(slot)).collect();
        shelf.retired.extend(deserted);
    }

    /// Whether there are slots that were dropped in use and are not retired yet.
    pub(crate) fn has_abandoned(&self) -> bool {
        !self.shelf().abandoned.is_empty()
    }

    /// Takes back a slot that could not be removed: it is tried again with the next chores.
    pub(crate) fn stuck(&self, slot: T) {
        self.shelf().retired.push(slot);
    }

    /// Returns the statistics of the pool.
    pub(crate) fn counts(&self) -> PoolCounts {
        let shelf = self.shelf();
        PoolCounts {
            ready: shelf.ready.len(),
            leased: shelf.leased,
            preparing: shelf.in_hand,
            target: shelf.size.target(),
            ..shelf.counts
        }
    }

    /// Counts the ready slots for which `is` returns true.
    pub(crate) fn count_ready(&self, is: impl Fn(&T) -> bool) -> usize {
        self.shelf().ready.iter().filter(|slot| is(slot)).count()
    }
}

impl<T> Shared<T> {
    fn shelf(&self) -> MutexGuard<'_, Shelf<T>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that is leased to one holder. If the lease is dropped untouched, the slot goes back to the shelf; if it is
/// dropped after [`touch`](Lease::touch), the slot is abandoned, because a container may still run in it.
#[derive(Debug)]
pub(crate) struct Lease<T> {
    slot: Option<T>,
    shared: Arc<Shared<T>>,
    touched: bool,
}

impl<T> Lease<T> {
    /// The slot.
    pub(crate) fn slot(&self) -> Option<&T> {
        self.slot.as_ref()
    }

    /// Marks the slot as in use: from now on a container may run in it.
    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    /// Gives back a slot in which no container runs any more. The slot is washed and used again, or replaced. A slot of
    /// a closed pool is returned, for the caller to remove.
    #[must_use = "a slot of a closed pool is the caller's to remove"]
    pub(crate) fn give_back(mut self) -> Option<T> {
        let slot = self.slot.take()?;
        let mut shelf = self.shared.shelf();
        shelf.leased = shelf.leased.saturating_sub(1);
        if shelf.closed {
            return Some(slot);
        }
        if !self.touched {
            shelf.ready.push_front(slot);
        } else if self.shared.once {
            shelf.retired.push(slot);
        } else {
            shelf.used.push(slot);
        }
        drop(shelf);
        self.shared.wake.notify_one();
        None
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let mut shelf = self.shared.shelf();
        shelf.leased = shelf.leased.saturating_sub(1);
        if self.touched {
            // The container may still run. The slot's journal entry and the container's label record the owner.
            shelf.abandoned.push(slot);
        } else if shelf.closed {
            shelf.retired.push(slot);
        } else {
            shelf.ready.push_front(slot);
        }
        drop(shelf);
        self.shared.wake.notify_one();
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
