//! A container that exists: its record, its writable layer, and its run.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::error::{self, At as _, Result, Step};
use super::record::{self, Origin, Owner};
use super::run::Run;
use super::{Deps, network, undo};
use crate::teardown::Teardown;
use crate::{ContainerId, Context, containerd};

/// A handle to a container; clones are the same container. Dropped, it leaves the container as it is.
#[derive(Debug, Clone)]
pub(crate) struct Container(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    deps: Arc<Deps>,
    id: ContainerId,
    /// Which life of the name it is.
    origin: Origin,
    run: Run,
    /// What removes the record and the layer. Held by tracked tasks alone.
    undo: Mutex<Teardown>,
}

impl Container {
    /// Takes over a container and the list of what removes it.
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

    /// Its name.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.0.id
    }

    /// Its run.
    pub(crate) fn run(&self) -> &Run {
        &self.0.run
    }

    pub(super) fn deps(&self) -> &Arc<Deps> {
        &self.0.deps
    }

    /// Kills what runs and removes everything, last first. Idempotent, in every phase. What could not be removed is the error,
    /// and removing again tries it again.
    ///
    /// # Cancellation
    /// Continues on its own task, with its own clock.
    pub(crate) async fn remove(&self) -> Result<()> {
        let this = self.clone();
        self.deps()
            .finished(async move { this.remove_here().await })
            .await
    }

    /// The same on the caller's own tracked task.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(crate) async fn remove_here(&self) -> Result<()> {
        let run = self.run();
        run.idle_ends();
        let mut stage = run.stage().lock().await;
        let mut own = self.0.undo.lock().await;
        if stage.is_undone() && own.is_empty() {
            return Ok(());
        }
        // The clock starts with the work, not with the wait for whoever held the stage.
        let ctx = Context::timeout(self.deps().config.close_grace);
        let left: &[&str] = match self.owner(&ctx).await {
            Ok(Owner::This) => {
                let mut failed = run.discard(&ctx, &mut stage).await;
                failed.extend(undo::rest(&mut own, &ctx, &failed).await);
                if failed.is_empty() {
                    run.ends();
                    self.deps().forget_unfinished(self.id(), self.0.origin.attempt());
                } else {
                    self.note_unfinished();
                }
                return error::report(Step::Close, self.id(), failed);
            }
            // A later life has what bears the name; without one, files may be left.
            Ok(Owner::Another) => &[network::STEP],
            Ok(Owner::Nobody) => &[network::STEP, undo::STREAMS],
            Err(error) => {
                self.note_unfinished();
                return Err(error).at(Step::Close, self.id());
            }
        };
        own.forget();
        let failed = run.discard_only(&ctx, &mut stage, left).await;
        error::report(Step::Close, self.id(), failed)
    }

    /// Leaves it running and forgets it: a later process finds it by its record.
    pub(super) async fn leave(&self) {
        let mut stage = self.run().stage().lock().await;
        self.run().leave(&mut stage);
        self.0.undo.lock().await.forget();
    }

    /// Whether there is nothing more to remove, as far as that can be told without waiting.
    pub(super) fn is_gone(&self) -> bool {
        let undone = self.run().stage().try_lock().is_ok_and(|stage| stage.is_undone());
        undone && self.0.undo.try_lock().is_ok_and(|own| own.is_empty())
    }

    /// Whose the name is now. containerd is asked only if there is a reason to: what was taken over may have been recreated,
    /// and what was made here may have been removed, which shows in its cgroup.
    async fn owner(&self, ctx: &Context) -> Result<Owner, containerd::Error> {
        match &self.0.origin {
            Origin::Made { .. } if self.run().is_intact() => Ok(Owner::This),
            Origin::Made { attempt } | Origin::Adopted { attempt } => {
                record::owner(&self.deps().session, ctx, self.id(), attempt).await
            }
        }
    }

    /// So that the next start goes on, if nobody removes it again.
    fn note_unfinished(&self) {
        self.deps().note_unfinished(self.id(), self.0.origin.attempt());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever owned it has run the list by now, or has left the container.
        self.undo.get_mut().forget();
    }
}
