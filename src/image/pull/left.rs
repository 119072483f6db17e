//! The leases that failed pulls of this process have left, so that the next pull of the same image can delete them.
//!
//! The leases of other processes are found by their labels when a pull starts; this list also contains the leases that
//! a pull of this process leaves while another one is running.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::LeaseId;

/// The leases with their images and expiry times.
#[derive(Debug, Default)]
pub(super) struct Left(Mutex<Vec<(String, LeaseId, Instant)>>);

impl Left {
    /// Records a lease that a pull of this image has left.
    pub(super) fn note(&self, image: &str, lease: LeaseId, keep: Duration) {
        self.current()
            .push((image.to_owned(), lease, Instant::now() + keep));
    }

    /// Removes and returns the leases that pulls of this image have left. The caller must delete them.
    pub(super) fn take(&self, image: &str) -> Vec<LeaseId> {
        let mut left = self.current();
        let taken = left.extract_if(.., |(name, ..)| name == image);
        taken.map(|(_, lease, _)| lease).collect()
    }

    /// The leases that have not expired: at most as many as there were recent failures.
    fn current(&self) -> MutexGuard<'_, Vec<(String, LeaseId, Instant)>> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        left.retain(|(.., until)| *until > now);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_taken_once_and_forgotten_when_it_has_ended() {
        let lease = |name: &str| LeaseId::new(name).unwrap();
        let left = Left::default();
        left.note("a", lease("one"), Duration::from_secs(1));
        left.note("b", lease("two"), Duration::from_secs(1));
        left.note("a", lease("three"), Duration::from_secs(9));
        assert_eq!(left.take("a"), [lease("one"), lease("three")]);
        assert!(left.take("a").is_empty());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(left.take("b").is_empty());
    }
}
