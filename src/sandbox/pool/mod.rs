//! Slots made ahead: taken in constant time, given back or replaced behind the caller's back.
//!
//! ```text
//!             put                 take                    give back
//!   (made) ────────► ready ─────────────► leased ─┬─────────────────► used ──(washed)──► ready
//!                      │                          │ once only, broken,
//!                      └── shrunk, dead ──► retired ◄─ or dropped ────┘ ──(removed)──► gone
//! ```
//!
//! The pool does no I/O and starts nothing: it is the shelf, and [`Size`] and [`Rate`] are the rules. Whoever keeps it asks
//! what is to be done ([`Pool::chores`]), and does it off the caller's path.

mod rate;
mod size;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(crate) use rate::Rate;
pub(crate) use size::{Bounds, Size};

/// A shelf of slots; clones are the same shelf.
#[derive(Debug)]
pub(crate) struct Pool<T>(Arc<Shared<T>>);

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<T> {
    /// A slot serves one container.
    once: bool,
    shelf: Mutex<Shelf<T>>,
    /// Something is to be done.
    wake: Notify,
}

#[derive(Debug)]
struct Shelf<T> {
    ready: VecDeque<T>,
    used: Vec<T>,
    retired: Vec<T>,
    /// Given up in use: whoever had them may still live in them.
    abandoned: Vec<T>,
    leased: usize,
    /// Slots that somebody is making, washing or looking at.
    in_hand: usize,
    closed: bool,
    counts: Counts,
    size: Size,
}

/// What a pool has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Slots that can be taken.
    pub(crate) ready: usize,
    /// Slots that containers have.
    pub(crate) leased: usize,
    /// How many slots there shall be.
    pub(crate) target: usize,
    /// How often a slot was taken.
    pub(crate) hits: u64,
    /// How often there was none.
    pub(crate) misses: u64,
    /// How many slots were found dead.
    pub(crate) dead: u64,
}

/// What is to be done for a pool.
#[derive(Debug)]
pub(crate) struct Chores<T> {
    /// To look at, and to [`put`](Pool::put) back or [`retire`](Pool::retire).
    pub(crate) wash: Vec<T>,
    /// To remove.
    pub(crate) remove: Vec<T>,
    /// How many to make: each ends with a [`put`](Pool::put) or a [`failed`](Pool::failed).
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
                counts: Counts::default(),
                size: Size::new(bounds),
            }),
            wake: Notify::new(),
        }))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<T>> {
        self.0.shelf()
    }

    /// Takes the slot that has been ready longest, if `fits` says that it is fit; one that is not is retired. `None`, and a
    /// miss, if there is none. Constant time but for dead slots, which are met once; `fits` runs without the lock.
    pub(crate) fn take(&self, fits: impl Fn(&T) -> bool) -> Option<Lease<T>> {
        loop {
            let mut lease = self.first()?;
            if lease.slot().is_some_and(&fits) {
                return Some(lease);
            }
            if let Some(slot) = lease.slot.take() {
                let mut shelf = self.shelf();
                shelf.leased = shelf.leased.saturating_sub(1);
                shelf.counts.hits -= 1;
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
        shelf.counts.hits += 1;
        shelf.leased += 1;
        let left = shelf.ready.len();
        shelf.size.took(left);
        drop(shelf);
        Some(Lease {
            slot: Some(slot),
            shared: Arc::clone(&self.0),
            touched: false,
        })
    }

    /// Puts a slot on the shelf that was made or washed.
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

    /// A slot that was washed, or looked at, is dead.
    pub(crate) fn retire(&self, slot: T) {
        let mut shelf = self.shelf();
        shelf.in_hand = shelf.in_hand.saturating_sub(1);
        shelf.counts.dead += 1;
        shelf.retired.push(slot);
        drop(shelf);
        self.0.wake.notify_one();
    }

    /// A slot could not be made, or is gone.
    pub(crate) fn failed(&self) {
        let mut shelf = self.shelf();
        shelf.in_hand = shelf.in_hand.saturating_sub(1);
    }

    /// The slot that has been ready longest, to be looked at, and then [`put`](Self::put) back or [`retire`](Self::retire)d.
    pub(crate) fn borrow(&self) -> Option<T> {
        let mut shelf = self.shelf();
        let slot = shelf.ready.pop_front()?;
        shelf.in_hand += 1;
        Some(slot)
    }

    /// What is to be done now; at most `most` are to be made. A tick of the clock for [`Size`] if `tick`.
    pub(crate) fn chores(&self, most: usize, tick: bool) -> Chores<T> {
        let mut shelf = self.shelf();
        if tick {
            shelf.size.tick();
        }
        let target = if shelf.closed { 0 } else { shelf.size.target() };
        let wash = std::mem::take(&mut shelf.used);
        shelf.in_hand += wash.len();
        let total = shelf.ready.len() + shelf.leased + shelf.in_hand;
        for _ in target..total {
            let Some(slot) = shelf.ready.pop_front() else {
                break;
            };
            shelf.retired.push(slot);
        }
        let make = target.saturating_sub(total).min(most);
        shelf.in_hand += make;
        Chores {
            wash,
            remove: std::mem::take(&mut shelf.retired),
            make,
        }
    }

    /// Ends when there may be something to do.
    pub(crate) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Takes everything from the shelf: nothing is taken or made any more. What is leased is retired when it comes back.
    pub(crate) fn close(&self) {
        let mut shelf = self.shelf();
        shelf.closed = true;
        let (ready, used) = (std::mem::take(&mut shelf.ready), std::mem::take(&mut shelf.used));
        shelf.retired.extend(ready);
        shelf.retired.extend(used);
    }

    /// What was given up in use, and in which nobody lives any more, is removed.
    pub(crate) fn retire_abandoned(&self, is_deserted: impl Fn(&T) -> bool) {
        let mut shelf = self.shelf();
        let deserted: Vec<_> = shelf.abandoned.extract_if(.., |slot| is_deserted(slot)).collect();
        shelf.retired.extend(deserted);
    }

    /// Whether anything was given up in use.
    pub(crate) fn has_abandoned(&self) -> bool {
        !self.shelf().abandoned.is_empty()
    }

    /// A slot that could not be removed: it is tried again with the next chores.
    pub(crate) fn stuck(&self, slot: T) {
        self.shelf().retired.push(slot);
    }

    /// What it has seen.
    pub(crate) fn counts(&self) -> Counts {
        let shelf = self.shelf();
        Counts {
            ready: shelf.ready.len(),
            leased: shelf.leased,
            target: shelf.size.target(),
            ..shelf.counts
        }
    }

    /// Counts the slots that are ready, by a property.
    pub(crate) fn count_ready(&self, is: impl Fn(&T) -> bool) -> usize {
        self.shelf().ready.iter().filter(|slot| is(slot)).count()
    }
}

impl<T> Shared<T> {
    fn shelf(&self) -> MutexGuard<'_, Shelf<T>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that is somebody's. Dropped untouched, it goes back; dropped in use, it is given up: whoever had it may still live
/// in it.
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

    /// From here on somebody may be in it.
    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    /// Nobody is in it any more. It is washed and used again, or replaced; from a closed pool it comes back, to be removed.
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
            // Its container may run on. Its journal entry and the container's label say whose it is.
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
