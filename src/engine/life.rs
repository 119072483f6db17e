//! Which life of a name a handle stands for, and what becomes of it when nobody closes it.
//!
//! A name may be removed by somebody else and made again while a handle of its earlier life is still held; the later life is
//! none of that handle's business.

use std::sync::Arc;

use super::container::Inner;
use super::error::{Error, Kind, Result, Step};
use super::network;
use super::record::{self, Origin, Owner};
use crate::Context;
use crate::cgroup::{self, CgroupIdentity};
use crate::containerd;
use crate::stdio::Fifos;

impl Inner {
    /// Whose the name is now. containerd is asked only if there is a reason to: what was taken over may have been recreated,
    /// and what was made here may have been removed, which shows in its cgroup.
    pub(super) async fn owner(&self, ctx: &Context) -> Result<Owner, containerd::Error> {
        match &self.origin {
            Origin::Made { .. }
                if self
                    .mark
                    .as_ref()
                    .map_or_else(|| !self.deleted(), CgroupIdentity::is_there) =>
            {
                Ok(Owner::This)
            }
            Origin::Made { attempt } | Origin::Adopted { attempt } => {
                record::owner(&self.deps.session, ctx, &self.id, attempt).await
            }
        }
    }

    /// So that the next start goes on, if nobody closes it again.
    pub(super) fn note_unfinished(&self) {
        self.deps.note_unfinished(&self.id, self.origin.attempt());
    }

    /// Somebody else has removed this life. What a later one has is its own; what nobody has can only be files.
    pub(super) fn leave_to(&self, owner: &Owner) -> Result<()> {
        if *owner == Owner::Another {
            return Ok(());
        }
        let removed = Fifos::remove(&self.deps.fifo_dir(&self.id));
        removed.map_err(|error| Error::new(Step::Close, &self.id, Kind::Internal, error))
    }

    /// Whether containerd knew nothing of the task any more when it ended.
    fn deleted(&self) -> bool {
        self.exit
            .borrow()
            .as_ref()
            .is_some_and(|exit| exit.code.is_none())
    }
}

impl Drop for Inner {
    /// The last handle is gone. What was created here and not closed is removed in the background; what was taken over
    /// stays what it was.
    fn drop(&mut self) {
        if let Some(idle) = &self.idle {
            idle.ends();
        }
        self.life.cancel();
        self.pumps.abort();
        let Some(mut undo) = self.undo.get_mut().take() else {
            return;
        };
        let Origin::Made { attempt } = self.origin.clone() else {
            return undo.forget();
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let intact = self
            .mark
            .as_ref()
            .map_or_else(|| !self.deleted(), CgroupIdentity::is_there);
        if intact && let Some(paths) = &self.paths {
            // Also thaws what a v1 freezer holds. Whatever it cannot do, the list does through containerd.
            drop(cgroup::kill_all(paths));
        }
        let (deps, id) = (Arc::clone(&self.deps), self.id.clone());
        tracing::warn!(%id, "the last handle of the container was dropped without a close; removing it");
        let work = async move {
            let ctx = Context::timeout(deps.config.close_grace);
            if !intact {
                match record::owner(&deps.session, &ctx, &id, &attempt).await {
                    Ok(Owner::This) => {}
                    Ok(Owner::Another | Owner::Nobody) => undo = undo.only(network::STEP),
                    Err(error) => {
                        tracing::error!(%id, error = %crate::chain(&error), "cannot find out whether the name has a later container; not removed");
                        return undo.forget();
                    }
                }
            }
            let failed = undo.run(&ctx).await;
            if failed.is_empty() {
                deps.forget_unfinished(&id, &attempt);
            } else {
                deps.note_unfinished(&id, &attempt);
            }
            for failed in failed {
                tracing::error!(%id, error = %crate::chain(&failed), "could not undo a step");
            }
        };
        drop(self.deps.tracker.spawn_on(work, &runtime));
    }
}
