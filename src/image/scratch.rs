//! A lease around a piece of work: what the work creates is safe from the garbage collector until it is done, and is
//! collected when it fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::containerd::{Error, Resource, Session};
use crate::teardown::insist;
use crate::{Context, LeaseId};

/// How long the release may take after the caller has given up.
const GRACE: Duration = Duration::from_secs(10);

/// A lease for one piece of work.
#[derive(Debug)]
#[must_use = "a lease that is not released holds its things until it expires"]
pub(super) struct Scratch {
    session: Session,
    lease: LeaseId,
    leased: Session,
}

impl Scratch {
    /// Takes a lease for `purpose` that ends by itself after `expiry`, should we not live to release it.
    ///
    /// # Cancellation
    /// Safe to drop: the lease expires.
    pub(super) async fn take(
        session: &Session,
        ctx: &Context,
        purpose: &'static str,
        expiry: Duration,
    ) -> Result<Self, Error> {
        let lease = LeaseId::new(unique(purpose))
            .map_err(|why| Error::unusable("Leases/Create", purpose, why.to_string()))?;
        let labels = BTreeMap::from([("fnctr/purpose".to_owned(), purpose.to_owned())]);
        let scratch = Self {
            session: session.clone(),
            leased: session.leased(&lease),
            lease,
        };
        let expires = SystemTime::now() + expiry;
        let taken = session
            .leases()
            .create(ctx, &scratch.lease, expires, &labels)
            .await;
        match taken {
            Ok(()) => Ok(scratch),
            Err(why) => {
                // The reply may have been lost. The name is nobody else's.
                scratch.release(ctx, false).await;
                Err(why)
            }
        }
    }

    /// The session whose calls carry the lease.
    pub(super) fn leased(&self) -> &Session {
        &self.leased
    }

    /// Has the lease hold a snapshot that may exist already.
    ///
    /// # Cancellation
    /// Safe to drop: the lease expires.
    pub(super) async fn hold(&self, ctx: &Context, snapshotter: &str, key: &str) -> Result<(), Error> {
        let snapshot = Resource::Snapshot {
            snapshotter: snapshotter.to_owned(),
            key: key.to_owned(),
        };
        let leases = self.session.leases();
        match leases.add_resource(ctx, &self.lease, &snapshot).await {
            Err(why) if why.is_already_exists() => Ok(()),
            held => held,
        }
    }

    /// Gives the lease up. With `collect`, what it alone held is gone when this returns.
    ///
    /// # Cancellation
    /// Safe to drop: the lease expires.
    pub(super) async fn release(self, ctx: &Context, collect: bool) {
        let ctx = ctx.detached(GRACE);
        let leases = self.session.leases();
        let released = insist(&ctx, async |ctx| {
            match leases.delete(&ctx, &self.lease, collect).await {
                Err(why) if why.is_not_found() => Ok(()),
                other => other,
            }
        });
        if let Err(why) = released.await {
            tracing::warn!(lease = %self.lease, %why, "a lease is left to expire by itself");
        }
    }
}

/// Removes a snapshot that was for this work alone. `false`: it is left to the garbage collector.
pub(super) async fn discard(session: &Session, ctx: &Context, snapshotter: &str, key: &str) -> bool {
    let snapshots = session.snapshots(snapshotter);
    let ctx = ctx.detached(GRACE);
    let removed = insist(&ctx, async |ctx| match snapshots.remove(&ctx, key).await {
        Err(why) if why.is_not_found() => Ok(()),
        other => other,
    });
    match removed.await {
        Ok(()) => true,
        Err(left) => {
            tracing::debug!(%left, "a snapshot is left to the garbage collector");
            false
        }
    }
}

/// A name that no other process and no other call of this one uses.
pub(super) fn unique(purpose: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "fnctr-{purpose}-{}-{:x}-{next}",
        std::process::id(),
        now.as_micros()
    )
}
