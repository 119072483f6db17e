//! A lease for a piece of work: it protects what the work creates from the garbage collector until the work is done. If
//! the work fails, what it created is collected.
//!
//! A lease expires by itself, in case this process dies before it releases it, and containerd cannot prolong a lease.
//! Work that may take longer than its lease gets another one ([`Scratch::keep_alive`]), which takes over what the
//! earlier leases hold:
//!
//! ```text
//! lease 0 ───────────────┐ renew: calls carry lease 1 from here on; what 0 holds, 1 holds too
//! lease 1          ──────┴─────────┐ renew: what came under 0 meanwhile is taken over once more, and 0 is deleted
//! lease 2                    ──────┴─── …
//! ```
//!
//! A lease contains the process that works under it ([`ProcessIdentity`]), so that what a killed process leaves need
//! not wait for the expiry.
//!
//! A call that was started before a renewal still carries the previous lease, and must end before the next renewal. A
//! write that takes longer checks [`Scratch::generation`] and is opened again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::containerd::{Error, Resource, Session};
use crate::process_identity::ProcessIdentity;
use crate::teardown::insist;
use crate::{Context, Digest, LeaseId, clock};

/// How long the release may take after the caller's context has ended.
const GRACE: Duration = Duration::from_secs(10);
/// How many renewals fit into one lease.
pub(super) const RENEWALS: u32 = 4;

/// The kind of work: load, pull, save, unpack or view.
pub(super) const PURPOSE: &str = "fnctr/purpose";
/// The object of the work: an image's name, or an archive's path.
pub(super) const SUBJECT: &str = "fnctr/subject";
/// Marks a lease without a running process, which only keeps fetched bytes for the next pull.
pub(super) const LEFT: &str = "fnctr/left";
/// The longest subject, in characters of up to four bytes: containerd accepts labels of at most 4096 bytes.
const MAX_SUBJECT: usize = 1000;

/// A lease for one piece of work.
#[derive(Debug)]
#[must_use = "a lease that is not released holds its things until it expires"]
pub(super) struct Scratch {
    session: Session,
    purpose: &'static str,
    subject: String,
    expiry: Duration,
    leases: Mutex<Leases>,
}

#[derive(Debug, Default)]
struct Leases {
    /// All leases. Each is added before it is created in containerd.
    all: Vec<LeaseId>,
    /// The lease that calls carry; it exists in containerd.
    current: Option<LeaseId>,
    renewals: usize,
}

impl Scratch {
    /// Takes a lease for `purpose` and `subject` that expires after `expiry` unless it is released.
    ///
    /// # Cancellation
    /// Safe to drop: the lease expires.
    pub(super) async fn take(
        session: &Session,
        ctx: &Context,
        (purpose, subject): (&'static str, &str),
        expiry: Duration,
    ) -> Result<Self, Error> {
        let scratch = Self {
            session: session.clone(),
            purpose,
            subject: subject.chars().take(MAX_SUBJECT).collect(),
            expiry,
            leases: Mutex::default(),
        };
        match scratch.create(ctx, expiry, false).await {
            Ok(_) => Ok(scratch),
            Err(why) => {
                // The lease may exist although the reply was lost. Its name is unique, so it can be deleted.
                scratch.release(ctx, false).await;
                Err(why)
            }
        }
    }

    /// A session whose calls carry the lease.
    pub(super) fn leased(&self) -> Session {
        self.leases()
            .current
            .as_ref()
            .map_or_else(|| self.session.clone(), |lease| self.session.leased(lease))
    }

    /// A number that changes with each renewal.
    pub(super) fn generation(&self) -> usize {
        self.leases().renewals
    }

    /// Makes the lease hold a snapshot that may exist already.
    ///
    /// # Cancellation
    /// Safe to drop: the lease expires.
    pub(super) async fn hold(&self, ctx: &Context, snapshotter: &str, key: &str) -> Result<(), Error> {
        let snapshot = Resource::Snapshot {
            snapshotter: snapshotter.to_owned(),
            key: key.to_owned(),
        };
        self.hold_resource(ctx, &snapshot).await
    }

    /// Makes the lease hold a blob that may exist already.
    ///
    /// # Cancellation
    /// Safe to drop: the lease expires.
    pub(super) async fn hold_blob(&self, ctx: &Context, digest: &Digest) -> Result<(), Error> {
        self.hold_resource(ctx, &Resource::Content(digest.clone())).await
    }

    /// Makes the lease hold an unfinished write that may exist already.
    ///
    /// # Cancellation
    /// Safe to drop: the lease expires.
    pub(super) async fn hold_ingest(&self, ctx: &Context, reference: &str) -> Result<(), Error> {
        self.hold_resource(ctx, &Resource::Ingest(reference.to_owned()))
            .await
    }

    async fn hold_resource(&self, ctx: &Context, resource: &Resource) -> Result<(), Error> {
        let lease = self.leases().current.clone();
        match lease {
            Some(lease) => self.add(ctx, &lease, resource).await,
            None => Ok(()),
        }
    }

    /// Renews the lease as long as this future is polled. Never returns.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn keep_alive(&self, ctx: &Context) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(self.expiry / RENEWALS).await;
            if let Err(why) = self.renew(ctx, self.expiry, false).await {
                // The renewal is attempted again before the lease expires.
                tracing::warn!(purpose = self.purpose, why = %crate::chain(&why), "cannot renew a lease");
            }
        }
    }

    /// Creates a new lease that expires after `expiry` and holds everything that the earlier leases hold.
    async fn renew(&self, ctx: &Context, expiry: Duration, left: bool) -> Result<(), Error> {
        let lease = self.create(ctx, expiry, left).await?;
        let earlier: Vec<_> = self
            .leases()
            .all
            .iter()
            .filter(|one| **one != lease)
            .cloned()
            .collect();
        let leases = self.session.leases();
        let mut done = Vec::new();
        for one in &earlier {
            match leases.resources(ctx, one).await {
                // Deleted by an earlier renewal.
                Err(why) if why.is_not_found() => {}
                resources => {
                    for resource in resources? {
                        self.add(ctx, &lease, &resource).await?;
                    }
                    done.push(one);
                }
            }
        }
        // Running calls still carry the previous lease; the leases before it are not needed any more.
        for one in done.iter().rev().skip(1) {
            self.delete(ctx, one, false).await?;
        }
        Ok(())
    }

    /// Releases the lease. If `collect` is set, what only this lease held has been collected when this returns.
    ///
    /// # Cancellation
    /// Safe to drop: the lease expires.
    pub(super) async fn release(&self, ctx: &Context, collect: bool) {
        let ctx = ctx.detached(GRACE);
        let leases = std::mem::take(&mut *self.leases()).all;
        let last = leases.len().saturating_sub(1);
        for (at, lease) in leases.iter().enumerate() {
            if let Err(why) = self.delete(&ctx, lease, collect && at == last).await {
                tracing::warn!(%lease, %why, "cannot delete a lease; it expires");
            }
        }
    }

    /// Keeps what was created for the time of `keep`, so that other work can continue with it; then it is collected.
    /// Returns the lease that holds it, for [`drop_left`].
    ///
    /// # Cancellation
    /// Safe to drop: the leases expire.
    pub(super) async fn leave(&self, ctx: &Context, keep: Duration) -> Option<LeaseId> {
        let ctx = ctx.detached(GRACE);
        if let Err(why) = self.renew(&ctx, keep, true).await {
            tracing::debug!(purpose = self.purpose, why = %crate::chain(&why), "cannot keep unfinished transfers for the next pull");
            self.release(&ctx, true).await;
            return None;
        }
        let Leases { all, current, .. } = std::mem::take(&mut *self.leases());
        for lease in all.into_iter().filter(|lease| Some(lease) != current.as_ref()) {
            if let Err(why) = self.delete(&ctx, &lease, false).await {
                tracing::warn!(%lease, %why, "cannot delete a lease; it expires");
            }
        }
        current
    }

    async fn create(&self, ctx: &Context, expiry: Duration, left: bool) -> Result<LeaseId, Error> {
        let lease = LeaseId::new(unique(self.purpose))
            .map_err(|why| Error::unusable("Leases/Create", self.purpose, why.to_string()))?;
        let mut labels = ProcessIdentity::this()
            .map(ProcessIdentity::labels)
            .unwrap_or_default();
        labels.insert(PURPOSE.to_owned(), self.purpose.to_owned());
        labels.insert(SUBJECT.to_owned(), self.subject.clone());
        if left {
            // The value is not empty, because containerd drops empty labels.
            labels.insert(LEFT.to_owned(), "yes".to_owned());
        }
        let expires = clock::now() + expiry;
        self.leases().all.push(lease.clone());
        self.session
            .leases()
            .create(ctx, &lease, expires, &labels)
            .await?;
        let mut leases = self.leases();
        leases.current = Some(lease.clone());
        leases.renewals += 1;
        Ok(lease)
    }

    async fn add(&self, ctx: &Context, lease: &LeaseId, resource: &Resource) -> Result<(), Error> {
        match self.session.leases().add_resource(ctx, lease, resource).await {
            Err(why) if why.is_already_exists() => Ok(()),
            added => added,
        }
    }

    async fn delete(&self, ctx: &Context, lease: &LeaseId, collect: bool) -> Result<(), Error> {
        delete(&self.session, ctx, lease, collect).await
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes a lease from [`Scratch::leave`], once what it holds is not needed any more.
///
/// # Cancellation
/// Safe to drop: the lease expires.
pub(super) async fn drop_left(session: &Session, ctx: &Context, lease: &LeaseId) {
    if let Err(why) = delete(session, &ctx.detached(GRACE), lease, false).await {
        tracing::debug!(%lease, %why, "cannot delete a lease; it expires");
    }
}

pub(super) async fn delete(
    session: &Session,
    ctx: &Context,
    lease: &LeaseId,
    collect: bool,
) -> Result<(), Error> {
    let leases = session.leases();
    let deleted = insist(ctx, session.metrics(), async |ctx| {
        match leases.delete(&ctx, lease, collect).await {
            Err(why) if why.is_not_found() => Ok(()),
            other => other,
        }
    });
    deleted.await
}

/// Removes a snapshot that only this work used. Returns `false` if it is left to the garbage collector.
pub(super) async fn discard(session: &Session, ctx: &Context, snapshotter: &str, key: &str) -> bool {
    let snapshots = session.snapshots(snapshotter);
    let ctx = ctx.detached(GRACE);
    let removed = insist(&ctx, session.metrics(), async |ctx| {
        match snapshots.remove(&ctx, key).await {
            Err(why) if why.is_not_found() => Ok(()),
            other => other,
        }
    });
    match removed.await {
        Ok(()) => true,
        Err(left) => {
            tracing::debug!(%left, "cannot remove a snapshot; the garbage collector will remove it");
            false
        }
    }
}

/// A name that is unique among all processes and all calls.
pub(super) fn unique(purpose: &str) -> String {
    format!("fnctr-{purpose}-{}", crate::ids::unique())
}
