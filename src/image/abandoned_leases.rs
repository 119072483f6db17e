//! Leases that are no longer in use: their process was killed, or it left them for the next pull.
//!
//! They expire after an hour or two. Until then they would keep parts of removed images on disk, so they are deleted
//! when an engine starts, before a load, and before a removal measures what it has freed. What a killed pull has
//! fetched is kept for a while, so that another pull can continue with it; only a removal deletes it at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::scratch::{self, LEFT, PURPOSE, SUBJECT};
use super::{Error, ImageStore};
use crate::containerd::Lease;
use crate::process_identity::{Life, ProcessIdentity};
use crate::{Context, LeaseId, clock};

/// The purpose of the leases whose bytes another process can continue with.
const PULL: &str = "pull";

/// Leases that may be deleted.
#[derive(Debug, Default)]
#[must_use = "they still hold what they held"]
pub(crate) struct AbandonedLeases(pub(super) Vec<LeaseId>);

impl AbandonedLeases {
    /// Whether there are no such leases.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &LeaseId> {
        self.0.iter()
    }

    /// Leaves out those that do not fit.
    pub(crate) fn retain(&mut self, fits: impl Fn(&LeaseId) -> bool) {
        self.0.retain(fits);
    }
}

/// The right to delete leases, with the number of bytes that this has freed and no removal has reported yet.
#[derive(Debug)]
pub(crate) struct Sweep(OwnedMutexGuard<u64>);

impl Sweep {
    /// The bytes that have been freed since the last call of this function.
    pub(super) fn freed(mut self) -> u64 {
        std::mem::take(&mut *self.0)
    }
}

/// Whether the process that holds this lease has ended.
fn is_orphan(lease: &Lease) -> bool {
    ProcessIdentity::of(&lease.labels).is_some_and(|holder| holder.life() == Life::Ended)
}

fn is_pull(lease: &Lease) -> bool {
    lease.labels.get(PURPOSE).is_some_and(|purpose| purpose == PULL)
}

impl ImageStore {
    /// The leases of processes that have ended, except for those of pulls that are younger than `keep`.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn orphans(&self, ctx: &Context, keep: Duration) -> Result<AbandonedLeases, Error> {
        let now = clock::now();
        let is_young = |lease: &Lease| {
            let age = lease.created.and_then(|created| now.duration_since(created).ok());
            is_pull(lease) && age.unwrap_or_default() < keep
        };
        self.leases_that(ctx, |lease| is_orphan(lease) && !is_young(lease))
            .await
    }

    /// All leases without a running process, including those that were left for the next pull.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn idle_leases(&self, ctx: &Context) -> Result<AbandonedLeases, Error> {
        self.leases_that(ctx, |lease| lease.labels.contains_key(LEFT) || is_orphan(lease))
            .await
    }

    /// The leases that unfinished pulls of this image have left, whichever process they ran in.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn left_of(&self, ctx: &Context, image: &str) -> Result<AbandonedLeases, Error> {
        let is_its = |lease: &Lease| {
            is_pull(lease) && lease.labels.get(SUBJECT).is_some_and(|subject| subject == image)
        };
        self.leases_that(ctx, |lease| {
            is_its(lease) && (lease.labels.contains_key(LEFT) || is_orphan(lease))
        })
        .await
    }

    /// Waits until no other caller is deleting leases. The returned value counts what is freed until a removal reports
    /// it.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn sweep(&self, ctx: &Context) -> Result<Sweep, Error> {
        let turn = ctx.run(Arc::clone(&self.swept).lock_owned()).await;
        turn.map(Sweep).map_err(|source| Error::NotSwept { source })
    }

    /// Deletes these leases. What only they held has been collected when this returns.
    ///
    /// # Errors
    /// Returns the error of the first lease that could not be deleted; the other leases are deleted.
    ///
    /// # Cancellation
    /// Safe to drop: the remaining leases are deleted by the next call, or expire.
    pub(crate) async fn end_leases(
        &self,
        ctx: &Context,
        sweep: &mut Sweep,
        leases: &AbandonedLeases,
    ) -> Result<(), Error> {
        let parts = self.held_by(ctx, leases).await?;
        let ended = self.delete_all(ctx, leases).await;
        let (freed, _) = self.freed_of(ctx, parts, &[]).await;
        *sweep.0 = sweep.0.saturating_add(freed);
        ended
    }

    async fn delete_all(&self, ctx: &Context, leases: &AbandonedLeases) -> Result<(), Error> {
        let last = leases.0.len().saturating_sub(1);
        let mut failed = None;
        for (at, lease) in leases.0.iter().enumerate() {
            match scratch::delete(&self.session, ctx, lease, at == last).await {
                Ok(()) => tracing::info!(%lease, "deleted a lease that is no longer in use"),
                Err(why) => failed = failed.or(Some(why)),
            }
        }
        failed.map_or(Ok(()), |why| {
            Err(Error::store("the leases of killed processes")(why))
        })
    }

    async fn leases_that(
        &self,
        ctx: &Context,
        fits: impl Fn(&Lease) -> bool,
    ) -> Result<AbandonedLeases, Error> {
        let all = self.session.leases().list(ctx, &[]).await;
        let all = all.map_err(Error::store("the list of leases"))?;
        let fitting = all.into_iter().filter(|lease| fits(lease)).map(|lease| lease.id);
        Ok(AbandonedLeases(fitting.collect()))
    }
}
