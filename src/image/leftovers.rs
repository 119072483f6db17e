//! Leases that nobody works under any more: their process was killed, or it left them for a pull to come.
//!
//! They end by themselves, after an hour or two. Until then they would keep what was loaded from being freed, so they are
//! ended when an engine starts, before a load, and before a removal says what it has freed. What a killed pull has fetched
//! is another's to go on with for a while: only a removal ends that at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::OwnedMutexGuard;

use super::scratch::{self, LEFT, PURPOSE, SUBJECT};
use super::{Error, ImageStore};
use crate::containerd::Lease;
use crate::holder::{Holder, Life};
use crate::{Context, LeaseId};

/// The purpose of the leases whose bytes another process can go on with.
const PULL: &str = "pull";

/// Leases that may go.
#[derive(Debug, Default)]
#[must_use = "they still hold what they held"]
pub(crate) struct Leftovers(pub(super) Vec<LeaseId>);

impl Leftovers {
    /// There are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The turn to end leases, with the bytes that this has freed and no removal has told.
#[derive(Debug)]
pub(crate) struct Sweep(OwnedMutexGuard<u64>);

impl Sweep {
    /// What has been freed since this was last asked for.
    pub(super) fn freed(mut self) -> u64 {
        std::mem::take(&mut *self.0)
    }
}

/// Nobody works under this lease.
fn is_orphan(lease: &Lease) -> bool {
    Holder::of(&lease.labels).is_some_and(|holder| holder.life() == Life::Ended)
}

fn is_pull(lease: &Lease) -> bool {
    lease.labels.get(PURPOSE).is_some_and(|purpose| purpose == PULL)
}

impl ImageStore {
    /// The leases of processes that have ended, but those of pulls that are younger than `keep`.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn orphans(&self, ctx: &Context, keep: Duration) -> Result<Leftovers, Error> {
        let now = SystemTime::now();
        let is_young = |lease: &Lease| {
            let age = lease.created.and_then(|created| now.duration_since(created).ok());
            is_pull(lease) && age.unwrap_or_default() < keep
        };
        self.leases_that(ctx, |lease| is_orphan(lease) && !is_young(lease))
            .await
    }

    /// All leases that nobody works under, also what was left for a pull to come.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn idle_leases(&self, ctx: &Context) -> Result<Leftovers, Error> {
        self.leases_that(ctx, |lease| lease.labels.contains_key(LEFT) || is_orphan(lease))
            .await
    }

    /// What pulls of this image have left that ended before their time, in whichever process.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn left_of(&self, ctx: &Context, image: &str) -> Result<Leftovers, Error> {
        let is_its = |lease: &Lease| {
            is_pull(lease) && lease.labels.get(SUBJECT).is_some_and(|subject| subject == image)
        };
        self.leases_that(ctx, |lease| {
            is_its(lease) && (lease.labels.contains_key(LEFT) || is_orphan(lease))
        })
        .await
    }

    /// Waits until nobody else is ending leases. What that frees is in it until a removal tells it.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn sweep(&self, ctx: &Context) -> Result<Sweep, Error> {
        let turn = ctx.run(Arc::clone(&self.swept).lock_owned()).await;
        turn.map(Sweep).map_err(|source| Error::NotSwept { source })
    }

    /// Ends these leases, and has what they alone held collected before it returns.
    ///
    /// # Errors
    /// The first lease that could not be deleted; the others are.
    ///
    /// # Cancellation
    /// Safe to drop: what is left is ended by the next look at it, or by itself.
    pub(crate) async fn end_leases(
        &self,
        ctx: &Context,
        sweep: &mut Sweep,
        leases: &Leftovers,
    ) -> Result<(), Error> {
        let parts = self.held_by(ctx, leases).await?;
        let ended = self.delete_all(ctx, leases).await;
        let (freed, _) = self.freed_of(ctx, parts, &[]).await;
        *sweep.0 = sweep.0.saturating_add(freed);
        ended
    }

    async fn delete_all(&self, ctx: &Context, leases: &Leftovers) -> Result<(), Error> {
        let last = leases.0.len().saturating_sub(1);
        let mut failed = None;
        for (at, lease) in leases.0.iter().enumerate() {
            match scratch::delete(&self.session, ctx, lease, at == last).await {
                Ok(()) => tracing::info!(%lease, "ended a lease of a killed process"),
                Err(why) => failed = failed.or(Some(why)),
            }
        }
        failed.map_or(Ok(()), |why| {
            Err(Error::containerd("what killed processes left")(why))
        })
    }

    async fn leases_that(&self, ctx: &Context, fits: impl Fn(&Lease) -> bool) -> Result<Leftovers, Error> {
        let all = self.session.leases().list(ctx, &[]).await;
        let all = all.map_err(Error::containerd("the list of leases"))?;
        let fitting = all.into_iter().filter(|lease| fits(lease)).map(|lease| lease.id);
        Ok(Leftovers(fitting.collect()))
    }
}
