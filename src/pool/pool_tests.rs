//! Tests of the pool's invariants: no slot exists twice, none is lost, and the ready and the leased slots together
//! (the ready ones alone, if each serves one container) are as many as the target.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const FIVE: Bounds = Bounds { floor: 5, ceiling: 5 };

fn filled(once: bool) -> Pool<usize> {
    let pool = Pool::new(FIVE, once);
    let chores = pool.chores(usize::MAX, false);
    for slot in 0..chores.make {
        pool.put(slot);
    }
    pool
}

#[test]
fn slots_go_round_and_an_empty_pool_is_a_miss() {
    let pool = filled(false);
    assert_eq!(pool.counts().ready, 5);
    let mut leases: Vec<_> = (0..5).map(|_| pool.take(|_| true).unwrap()).collect();
    assert!(pool.take(|_| true).is_none());
    let counts = pool.counts();
    assert_eq!((counts.leased, counts.hits, counts.misses), (5, 5, 1));
    let mut lease = leases.pop().unwrap();
    lease.touch();
    assert_eq!(lease.give_back(), None);
    let chores = pool.chores(usize::MAX, false);
    assert_eq!((chores.wash, chores.remove.len(), chores.make), (vec![4], 0, 0));
    pool.put(4);
    assert_eq!(*pool.take(|_| true).unwrap().slot().unwrap(), 4);
}

#[test]
fn a_slot_for_one_use_is_replaced_and_one_that_was_not_touched_is_as_good_as_new() {
    let pool = filled(true);
    drop(pool.take(|_| true).unwrap());
    assert_eq!(pool.take(|_| true).unwrap().give_back(), None);
    assert_eq!(pool.counts().ready, 5);
    let mut lease = pool.take(|_| true).unwrap();
    lease.touch();
    // Already while it is used, for however long that is.
    let chores = pool.chores(usize::MAX, true);
    assert_eq!((chores.remove.len(), chores.make), (0, 1));
    pool.put(5);
    assert_eq!(lease.give_back(), None);
    let chores = pool.chores(usize::MAX, true);
    assert_eq!((chores.wash.len(), chores.remove.len(), chores.make), (0, 1, 0));
    // One that was not used after all is one too many.
    let lease = pool.take(|_| true).unwrap();
    assert_eq!(pool.chores(usize::MAX, true).make, 1);
    pool.put(6);
    drop(lease);
    assert_eq!(pool.chores(usize::MAX, true).remove.len(), 1);
    assert_eq!(pool.counts().ready, 5);
}

#[test]
fn slots_for_one_use_are_replaced_at_leisure_while_half_of_them_are_ready() {
    let pool = filled(true);
    let mut leases: Vec<_> = (0..2).map(|_| pool.take(|_| true).unwrap()).collect();
    leases.iter_mut().for_each(Lease::touch);
    assert_eq!(leases.pop().unwrap().give_back(), None);
    let chores = pool.chores(usize::MAX, false);
    assert_eq!((chores.remove.len(), chores.make), (0, 0));
    leases.push(pool.take(|_| true).unwrap());
    let chores = pool.chores(usize::MAX, false);
    assert_eq!((chores.remove.len(), chores.make), (1, 3));
}

#[test]
fn a_lease_that_is_dropped_in_use_is_given_up_and_replaced() {
    let pool = filled(false);
    let mut lease = pool.take(|_| true).unwrap();
    lease.touch();
    drop(lease);
    let chores = pool.chores(usize::MAX, false);
    assert_eq!((chores.wash.len(), chores.remove.len(), chores.make), (0, 0, 1));
}

#[test]
fn a_dead_slot_is_passed_over_retired_and_replaced() {
    let pool = filled(false);
    assert_eq!(*pool.take(|slot| *slot != 0).unwrap().slot().unwrap(), 1);
    let chores = pool.chores(usize::MAX, false);
    assert_eq!((chores.remove, chores.make), (vec![0], 1));
    let counts = pool.counts();
    assert_eq!(
        (counts.dead, counts.hits, counts.leased, counts.preparing),
        (1, 1, 0, 1)
    );
}

#[test]
fn a_closed_pool_gives_everything_up_and_makes_nothing() {
    let pool = filled(false);
    let (mut lease, mut other) = (pool.take(|_| true).unwrap(), pool.take(|_| true).unwrap());
    lease.touch();
    other.touch();
    assert_eq!(other.give_back(), None);
    pool.close();
    assert!(pool.take(|_| true).is_none());
    assert_eq!(
        pool.chores(usize::MAX, false).remove.len(),
        4,
        "what waits to be washed, too"
    );
    assert_eq!(lease.give_back(), Some(0), "nobody looks after the pool any more");
    let chores = pool.chores(usize::MAX, true);
    assert_eq!((chores.remove.len(), chores.make), (0, 0));
}

/// Sixteen takers run a thousand rounds each beside a keeper that washes. No two takers ever hold the same slot, and
/// all slots come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_slot_has_two_holders() {
    const SLOTS: usize = 24;
    let pool = Pool::new(
        Bounds {
            floor: SLOTS,
            ceiling: SLOTS,
        },
        false,
    );
    for slot in 0..pool.chores(usize::MAX, false).make {
        pool.put(slot);
    }
    let held: Arc<Vec<AtomicUsize>> = Arc::new((0..SLOTS).map(|_| AtomicUsize::new(0)).collect());
    let tracker = tokio_util::task::TaskTracker::new();
    for _ in 0..16 {
        let (pool, held) = (pool.clone(), Arc::clone(&held));
        tracker.spawn(async move {
            let mut rounds = 0;
            while rounds < 1000 {
                let Some(mut lease) = pool.take(|_| true) else {
                    tokio::task::yield_now().await;
                    continue;
                };
                lease.touch();
                let slot = *lease.slot().unwrap();
                assert_eq!(held[slot].fetch_add(1, Ordering::SeqCst), 0, "slot {slot} twice");
                tokio::task::yield_now().await;
                held[slot].fetch_sub(1, Ordering::SeqCst);
                assert_eq!(lease.give_back(), None);
                rounds += 1;
            }
        });
    }
    tracker.close();
    let keeper = async {
        loop {
            tokio::select! {
                () = pool.woken() => {}
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            let chores = pool.chores(usize::MAX, false);
            assert_eq!((chores.remove.len(), chores.make), (0, 0));
            chores.wash.into_iter().for_each(|slot| pool.put(slot));
        }
    };
    tokio::select! {
        () = tracker.wait() => {}
        () = keeper => {}
    }
    pool.chores(0, false)
        .wash
        .into_iter()
        .for_each(|slot| pool.put(slot));
    let mut back = BTreeSet::new();
    while let Some(slot) = pool.borrow() {
        assert!(back.insert(slot));
    }
    assert_eq!(back.len(), SLOTS);
    assert_eq!(pool.counts().hits, 16_000);
}

proptest! {
    /// After any sequence of operations each slot is in exactly one place, and no slot appears from nowhere.
    #[test]
    fn slots_are_neither_lost_nor_doubled(what in prop::collection::vec(0_u8..8, 0..200), once: bool) {
        let pool = Pool::new(Bounds { floor: 3, ceiling: 6 }, once);
        let (mut next, mut gone, mut given_up) = (0_usize, 0_usize, 0_usize);
        let mut leases: Vec<Lease<usize>> = Vec::new();
        for what in what {
            match what {
                0 | 1 => leases.extend(pool.take(|_| true)),
                2 => if let Some(lease) = leases.pop() { prop_assert!(lease.give_back().is_none()) },
                3 => if let Some(lease) = leases.last_mut() { lease.touch() },
                4 => if let Some(lease) = leases.pop() {
                    given_up += usize::from(lease.touched);
                    drop(lease);
                },
                5 => if let Some(slot) = pool.borrow() { pool.retire(slot) },
                _ => {
                    let chores = pool.chores(2, what == 7);
                    gone += chores.remove.len();
                    chores.wash.into_iter().for_each(|slot| pool.put(slot));
                    for _ in 0..chores.make {
                        pool.put(next);
                        next += 1;
                    }
                }
            }
            let shelf = pool.shelf();
            let mut places: Vec<_> = shelf.ready.iter().chain(&shelf.used).chain(&shelf.retired).copied().collect();
            places.extend(leases.iter().filter_map(|lease| lease.slot().copied()));
            prop_assert_eq!(shelf.leased, leases.len());
            prop_assert_eq!(shelf.in_hand, 0);
            let different: BTreeSet<_> = places.iter().collect();
            prop_assert_eq!(different.len(), places.len());
            prop_assert_eq!(places.len() + gone + given_up, next);
            prop_assert!(shelf.size.target() <= 6 && shelf.size.target() >= 3);
        }
    }
}
