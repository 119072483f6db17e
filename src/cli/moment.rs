//! A moment that may not be set.

use tokio::time::Instant;

/// Waits until a moment; without one, for ever.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
