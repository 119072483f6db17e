//! A container that exists: its record, its writable layer, and its run.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::error::{self, At as _, Result, Step};
use super::record::{self, Origin, Owner};
use super::run::Run;
use super::{Deps, network, undo};
use crate::teardown::Teardown;
use crate::{ContainerId, Context, containerd};

/// A handle to a container; clones refer to the same container. Dropping a handle leaves the container as it is.
#[derive(Debug, Clone)]
pub(crate) struct Container(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    deps: Arc<Deps>,
    id: ContainerId,
    /// Which attempt made it: other containers may have had its name before, or have it now.
    origin: Origin,
    run: Run,
    /// The undo list of the record and the layer. Only tracked tasks hold the lock.
    undo: Mutex<Teardown>,
}

impl Container {
    /// Takes over a container and its undo list.
    pub(super) fn new(deps: &Arc<Deps>, run: Run, origin: Origin, undo: Teardown) -> Self {
        debug_assert!(undo::is_whole_container(&undo), "{undo:?}");
        Self(Arc::new(Inner {
            deps: Arc::clone(deps),
            id: run.id().clone(),
            origin,
            run,
            undo: Mutex::new(undo),
        }))
    }

    /// The container's name.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.0.id
    }

    /// The container's run.
    pub(crate) fn run(&self) -> &Run {
        &self.0.run
    }

    pub(super) fn deps(&self) -> &Arc<Deps> {
        &self.0.deps
    }

    /// Kills the container's processes and removes everything, last first. May be called in every phase, and again: if
    /// a part could not be removed, this returns an error, and another call tries that part again.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task, with its own time limit.
    pub(crate) async fn remove(&self) -> Result<()> {
        let this = self.clone();
        self.deps()
            .finished(async move { this.remove_here().await })
            .await
    }

    /// Like [`Self::remove`], on the caller's own task, which must be tracked.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(crate) async fn remove_here(&self) -> Result<()> {
        self.remove_knowing(self.run().is_intact()).await
    }

    /// Like [`Self::remove_here`], if the cgroup of the run may be gone because its processes were killed for this
    /// removal. `is_intact` is what [`Run::is_intact`] returned before.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(super) async fn remove_knowing(&self, is_intact: bool) -> Result<()> {
        let run = self.run();
        run.idle_ends();
        let mut stage = run.stage().lock().await;
        let mut list = self.0.undo.lock().await;
        if stage.is_undone() && list.is_empty() {
            self.forget_unfinished();
            return Ok(());
        }
        // The time limit starts here, so it does not include the wait for the stage.
        let ctx = Context::timeout(self.deps().config.close_grace);
        let ours: &[&str] = match self.owner(&ctx, is_intact).await {
            Ok(Owner::This) => {
                let mut failed = run.discard(&ctx, &mut stage).await;
                failed.extend(undo::rest(&mut list, &ctx, &failed).await);
                if failed.is_empty() {
                    run.ends();
                    self.forget_unfinished();
                } else {
                    self.note_unfinished();
                }
                return error::report(Step::Close, self.id(), failed);
            }
            // What is found by the name belongs to a later container of that name. If there is none, files may be left.
            Ok(Owner::Another) => &[network::STEP],
            Ok(Owner::Nobody) => &[network::STEP, undo::STREAMS],
            Err(error) => {
                self.note_unfinished();
                return Err(error).at(Step::Close, self.id());
            }
        };
        list.forget();
        let failed = run.discard_only(&ctx, &mut stage, ours).await;
        if failed.is_empty() {
            self.forget_unfinished();
        }
        error::report(Step::Close, self.id(), failed)
    }

    /// Leaves the container running and empties its undo lists. A later process finds it by its record.
    pub(super) async fn leave(&self) {
        let mut stage = self.run().stage().lock().await;
        self.run().leave(&mut stage);
        self.0.undo.lock().await.forget();
    }

    /// Whether nothing is left to remove; `false` if that cannot be determined without waiting.
    pub(super) fn is_gone(&self) -> bool {
        let undone = self.run().stage().try_lock().is_ok_and(|stage| stage.is_undone());
        undone && self.0.undo.try_lock().is_ok_and(|list| list.is_empty())
    }

    /// Which container has the name now. Asks containerd only if needed: an adopted container may have been recreated
    /// by another process, and a container made here may have been removed, in which case its cgroup is gone.
    async fn owner(&self, ctx: &Context, is_intact: bool) -> Result<Owner, containerd::Error> {
        match &self.0.origin {
            Origin::Made { .. } if is_intact => Ok(Owner::This),
            Origin::Made { attempt } | Origin::Adopted { attempt } => {
                record::owner(&self.deps().session, ctx, self.id(), attempt).await
            }
        }
    }

    /// Notes that the container is not removed completely, so that the next start continues if no other removal does.
    fn note_unfinished(&self) {
        self.deps().note_unfinished(self.id(), self.0.origin.attempt());
    }

    /// The same before a removal, in case that this process ends in the middle of it.
    pub(super) fn note(&self) {
        if let Err(error) = self.deps().note(self.id(), self.0.origin.attempt()) {
            tracing::debug!(id = %self.id(), %error, "cannot note that the container is to be removed");
        }
    }

    /// Takes that back, because nothing is left of this container.
    fn forget_unfinished(&self) {
        self.deps().forget_unfinished(self.id(), self.0.origin.attempt());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // An adopted container stays, and the next process finds it by its record. For a container made here, the drop
        // of a list that is not empty logs an error.
        if let Origin::Adopted { .. } = self.origin {
            self.undo.get_mut().forget();
        }
    }
}
