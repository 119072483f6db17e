//! A small in-process cache that evicts the least recently used value. It is for values that never change for their
//! key: every key here is a digest.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// At most `capacity` values. Eviction scans all of them, so the capacity should be small.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    capacity: usize,
    entries: Mutex<Entries<K, V>>,
}

#[derive(Debug)]
struct Entries<K, V> {
    clock: u64,
    values: HashMap<K, (u64, V)>,
}

impl<K: Hash + Eq + Clone, V: Clone> Bounded<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        let entries = Entries {
            clock: 0,
            values: HashMap::new(),
        };
        Self {
            capacity,
            entries: Mutex::new(entries),
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let mut entries = self.lock();
        entries.clock += 1;
        let now = entries.clock;
        let (used, value) = entries.values.get_mut(key)?;
        *used = now;
        Some(value.clone())
    }

    pub(super) fn put(&self, key: K, value: V) {
        let mut entries = self.lock();
        entries.clock += 1;
        let now = entries.clock;
        entries.values.insert(key, (now, value));
        if entries.values.len() > self.capacity {
            let oldest = entries.values.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                entries.values.remove(&key);
            }
        }
    }

    pub(super) fn forget(&self, key: &K) {
        self.lock().values.remove(key);
    }

    // A panic while the lock was held cannot leave half a value behind.
    fn lock(&self) -> MutexGuard<'_, Entries<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let cache = Bounded::new(2);
        cache.put("a", 1);
        cache.put("b", 2);
        assert_eq!(cache.get(&"a"), Some(1));
        cache.put("c", 3);
        assert_eq!(
            ["a", "b", "c"].map(|key| cache.get(&key)),
            [Some(1), None, Some(3)]
        );
        cache.forget(&"a");
        assert_eq!(cache.get(&"a"), None);
    }
}
