//! The containerd record of a container: the first thing made and the last thing removed.
//!
//! The record reserves an id for one attempt, and protects the snapshot that it names from containerd's garbage
//! collector. So it is made *before* the snapshot, and a container needs no lease of its own: a snapshot whose record
//! is gone is garbage that containerd collects, even if the reply to a removal was lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use fnctr_oci::Spec;

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::kept::{self, LastRun};
use super::label;
use super::plan::Plan;
use super::{Deps, facts, logs, volume_use};
use crate::containerd::{self, Record, Session};
use crate::teardown::Teardown;
use crate::{ContainerId, Context};

/// The undo step that removes the record.
pub(super) const STEP: &str = "record";

/// Another container has the name.
#[derive(Debug, thiserror::Error)]
#[error("there is a container of this name; remove that, or choose another name")]
pub(super) struct NameTaken;

/// Refuses a name that has a record.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn check_name(deps: &Deps, ctx: &Context, id: &ContainerId) -> Result<()> {
    match deps.session.containers().get(ctx, id).await {
        Ok(_) => Err(Error::new(Step::Record, id, Kind::Conflict, NameTaken)),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error).at(Step::Record, id),
    }
}

/// Whether the record under the container's id was made by this attempt, which may then remove it.
#[derive(Debug, Clone)]
pub(super) struct Claim(Arc<AtomicU8>);

/// The reply to the create has not come, or was lost.
const UNKNOWN: u8 = 0;
/// containerd confirmed that this attempt made the record.
const OURS: u8 = 1;
/// containerd refused the create: the id belongs to another container.
const REFUSED: u8 = 2;
/// This process has removed it.
const REMOVED: u8 = 3;

impl Default for Claim {
    fn default() -> Self {
        Self::new(UNKNOWN)
    }
}

impl Claim {
    fn new(state: u8) -> Self {
        Self(Arc::new(AtomicU8::new(state)))
    }

    /// Whether this process has removed the record.
    pub(super) fn is_removed(&self) -> bool {
        self.state() == REMOVED
    }

    fn settle(&self, state: u8) {
        self.0.store(state, Ordering::Release);
    }

    fn state(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }
}

/// What a new record has besides its plan.
#[derive(Debug)]
pub(super) struct New<'a> {
    pub(super) spec: &'a Spec,
    pub(super) sandbox: Option<&'a str>,
    pub(super) attempt: &'a str,
    /// A new one.
    pub(super) claim: &'a Claim,
    /// The run that the record of a kept container is to show.
    pub(super) last_run: &'a LastRun,
}

/// Makes the record, which has this attempt as a label, and returns it. A container of the same id is a conflict, and stays
/// untouched.
pub(super) async fn create(
    deps: &Deps,
    ctx: &Context,
    plan: &Plan,
    new: New<'_>,
    undo: &mut Teardown,
) -> Result<Record> {
    let New {
        spec,
        sandbox,
        attempt,
        claim,
        last_run,
    } = new;
    // The order of the spec's sets differs from run to run, which does not matter to readers of a record; sorting them
    // would cost more than all the rest of the translation.
    let spec_json =
        serde_json::to_vec(spec).map_err(|e| Error::new(Step::Record, &plan.id, Kind::Internal, e))?;
    let mut labels = plan.labels.clone();
    labels.extend(facts::labels(spec));
    labels.insert(label::ENGINE.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    labels.insert(label::ATTEMPT.to_owned(), attempt.to_owned());
    if let Some(name) = &plan.name {
        labels.insert(label::NAME.to_owned(), name.to_string());
    }
    if let Some(sandbox) = sandbox {
        labels.insert(label::SANDBOX.to_owned(), sandbox.to_owned());
    }
    if let Some(bytes) = plan.fs_size {
        labels.insert(label::FS_SIZE.to_owned(), bytes.to_string());
    }
    labels.extend(logs::label(plan));
    labels.extend(volume_use::label(&plan.volumes));
    if let Some(custody) = &plan.custody {
        labels.extend(custody.labels());
    }
    let mut extensions = if plan.is_kept {
        labels.insert(label::KEPT.to_owned(), last_run.label().to_owned());
        kept::extensions(plan, last_run)?
    } else {
        BTreeMap::new()
    };
    let volumes = volume_use::extension(&plan.volumes);
    extensions.extend(volumes.map_err(|e| Error::new(Step::Record, &plan.id, Kind::Internal, e))?);
    let record = Record {
        id: plan.id.clone(),
        image: plan.image.to_string(),
        labels,
        runtime: deps.config.runtime.name.clone(),
        runtime_options: deps.config.runtime.options(),
        spec: spec_json,
        snapshotter: deps.config.snapshotter.clone(),
        snapshot_key: plan.id.to_string(),
        created_at: None,
        extensions,
    };
    defer(undo, &deps.session, &plan.id, attempt, claim);
    match deps.session.containers().create(ctx, &record).await {
        Ok(record) => {
            claim.settle(OURS);
            Ok(record)
        }
        Err(error) => {
            if error.is_already_exists() {
                claim.settle(REFUSED);
                return Err(Error::new(Step::Record, &plan.id, Kind::Conflict, NameTaken));
            }
            Err(error).at(Step::Record, &plan.id)
        }
    }
}

/// Puts the removal of a record that is known to exist on the list.
pub(super) fn defer_removal(undo: &mut Teardown, session: &Session, record: &Record) -> Claim {
    let claim = Claim::new(OURS);
    defer(undo, session, &record.id, attempt_of(record), &claim);
    claim
}

fn defer(undo: &mut Teardown, session: &Session, id: &ContainerId, attempt: &str, claim: &Claim) {
    let (session, id, attempt, claim) = (session.clone(), id.clone(), attempt.to_owned(), claim.clone());
    undo.defer_claim(STEP, move |ctx| {
        let (session, id, attempt, claim) = (session.clone(), id.clone(), attempt.clone(), claim.clone());
        async move {
            match claim.state() {
                REFUSED => Ok(()),
                OURS => {
                    if remove(&session, &ctx, &id).await? {
                        claim.settle(REMOVED);
                    }
                    Ok(())
                }
                _ => remove_attempt(&session, &ctx, &id, &attempt).await,
            }
        }
    });
}

/// Removes a record. Returns whether it was there.
async fn remove(session: &Session, ctx: &Context, id: &ContainerId) -> Result<bool, containerd::Error> {
    match session.containers().delete(ctx, id).await {
        Err(error) if error.is_not_found() => Ok(false),
        other => other.map(|()| true),
    }
}

/// Removes the record only if this attempt made it.
async fn remove_attempt(
    session: &Session,
    ctx: &Context,
    id: &ContainerId,
    attempt: &str,
) -> Result<(), containerd::Error> {
    match owner(session, ctx, id, attempt).await? {
        Owner::This => remove(session, ctx, id).await.map(drop),
        Owner::Another | Owner::Nobody => Ok(()),
    }
}

/// How this process got a handle. Either way it contains the attempt that made the container, so that the handle does
/// not touch a later container of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// This process created the container.
    Made { attempt: String },
    /// This process adopted it from a process that is gone.
    Adopted { attempt: String },
}

impl Origin {
    pub(super) fn attempt(&self) -> &str {
        let (Self::Made { attempt } | Self::Adopted { attempt }) = self;
        attempt
    }
}

/// Which container's record is under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The record of the attempt in question.
    This,
    /// The record of another container of the same name.
    Another,
    /// There is no record.
    Nobody,
}

/// Asks containerd which container's record is under this id.
pub(super) async fn owner(
    session: &Session,
    ctx: &Context,
    id: &ContainerId,
    attempt: &str,
) -> Result<Owner, containerd::Error> {
    match session.containers().get(ctx, id).await {
        Ok(record) if attempt_of(&record) == attempt => Ok(Owner::This),
        Ok(_) => Ok(Owner::Another),
        Err(error) if error.is_not_found() => Ok(Owner::Nobody),
        Err(error) => Err(error),
    }
}

/// The attempt that made a record; empty if no engine made it.
pub(super) fn attempt_of(record: &Record) -> &str {
    record.labels.get(label::ATTEMPT).map_or("", String::as_str)
}

/// The hostname inside the container.
pub(super) fn hostname_of(record: &Record) -> Option<String> {
    let spec: serde_json::Value = serde_json::from_slice(&record.spec).ok()?;
    spec.pointer("/hostname")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::LeaseId;
    use crate::containerd::testing::Private;

    /// containerd collects garbage before it answers a synchronous delete of a lease.
    async fn collect_garbage(session: &Session, ctx: &Context) {
        let lease = LeaseId::new("gc-now").unwrap();
        let soon = crate::clock::now() + Duration::from_secs(60);
        session
            .leases()
            .create(ctx, &lease, soon, &BTreeMap::new())
            .await
            .unwrap();
        session.leases().delete(ctx, &lease, true).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_record_keeps_the_snapshot_that_it_names_without_a_lease() {
        let Some(private) = Private::start().await else {
            return;
        };
        let ctx = Context::timeout(Duration::from_secs(60));
        let session = private.session().await;
        let id = ContainerId::new("kept").unwrap();
        let record = Record {
            id: id.clone(),
            image: String::new(),
            labels: BTreeMap::new(),
            runtime: "io.containerd.runc.v2".to_owned(),
            runtime_options: None,
            spec: b"{}".to_vec(),
            snapshotter: "overlayfs".to_owned(),
            snapshot_key: "kept".to_owned(),
            created_at: None,
            extensions: BTreeMap::new(),
        };
        let snapshots = session.snapshots("overlayfs");
        // A snapshot that no record names is garbage at once; the order of the create prevents that.
        snapshots
            .prepare(&ctx, "stray", None, &BTreeMap::new())
            .await
            .unwrap();
        session.containers().create(&ctx, &record).await.unwrap();
        snapshots
            .prepare(&ctx, "kept", None, &BTreeMap::new())
            .await
            .unwrap();
        collect_garbage(&session, &ctx).await;
        assert!(snapshots.stat(&ctx, "stray").await.unwrap_err().is_not_found());
        snapshots.stat(&ctx, "kept").await.unwrap();
        remove(&session, &ctx, &id).await.unwrap();
        collect_garbage(&session, &ctx).await;
        assert!(snapshots.stat(&ctx, "kept").await.unwrap_err().is_not_found());
    }
}
