//! Serialises work per key: the second caller waits, and then finds the result of the first.
//!
//! If the first caller goes away, for whatever reason, the second one gets its turn.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// The keys that are being worked on.
#[derive(Debug)]
pub(super) struct Turns<K>(Mutex<HashMap<K, Weak<Turn<()>>>>);

impl<K: Hash + Eq + Clone> Turns<K> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Waits until no other caller works on `key`. The key belongs to the caller until the guard is dropped.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn take(&self, key: &K) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(key).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(Turn::new(()));
                    turns.insert(key.clone(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first_of_the_same_and_nothing_is_remembered() {
        let turns = Turns::new();
        let first = turns.take(&"a").await;
        drop(turns.take(&"b").await);
        let mut second = Box::pin(turns.take(&"a"));
        assert!(futures_poll(&mut second).await.is_none());
        drop(first);
        let second = second.await;
        drop(second);
        drop(turns.take(&"c").await);
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }

    /// Polls a future once.
    async fn futures_poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
        tokio::select! {
            biased;
            out = future => Some(out),
            () = std::future::ready(()) => None,
        }
    }
}
