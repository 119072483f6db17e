//! Containers of the command, which may stay when their process has ended.

use super::{ContainerdCookie, Held, refuse, translate};
use crate::driver::{Error, Phase, Step};
use crate::engine::{Custody, Kind, LogPlan, RestartPolicy, SharedStreams, VolumeUse};
use crate::{ContainerName, Context};

impl ContainerdCookie {
    /// Records the container's owner, so that a later process can determine whether the owner still runs, and whether
    /// the container is kept after its end.
    pub(crate) fn looked_after(self, custody: Custody, is_kept: bool) -> Self {
        self.0.draft.looked_after(custody, is_kept);
        self
    }

    /// Sets when the container is started again by a server. Must be called before a create.
    pub(crate) fn restarted(self, policy: RestartPolicy) -> Self {
        self.0.draft.restarted(policy);
        self
    }

    /// Keeps the output of a container that is kept itself, if a plan is given.
    pub(crate) fn logged(self, log: Option<LogPlan>) -> Self {
        self.0.draft.logged(log);
        self
    }

    /// Gives the container a name beside its id.
    pub(crate) fn named(self, name: Option<ContainerName>) -> Self {
        if let Some(name) = name {
            self.0.draft.named(name);
        }
        self
    }

    /// Gives the container volumes.
    pub(crate) fn with_volumes(self, volumes: Vec<VolumeUse>) -> Self {
        self.0.draft.with_volumes(volumes);
        self
    }

    /// Creates a container that is kept, without a run. The caller leaves it, to be started later.
    pub(crate) async fn create_kept(&self, ctx: &Context) -> Result<(), Error> {
        self.step(ctx, Self::create_kept_now).await
    }

    /// Lets other processes attach to the container. A failure is only logged.
    pub(crate) fn share(&self, streams: &SharedStreams) {
        let run = self.0.container.get().and_then(|held| held.container.run());
        if let Some(Err(error)) = run.map(|run| run.share(streams)) {
            tracing::warn!(error = %crate::chain(&error), "other processes cannot attach to the container");
        }
    }

    /// Keeps a container that has ended: writes its end to the record, removes its run, and leaves it.
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        let Some(held) = self.0.container.get() else {
            return Ok(());
        };
        let settled = held.container.settle().await;
        // Left even if that failed: the container must be kept, and the next command settles it.
        held.leave().await;
        match settled {
            // Another process has started it again, or removed it.
            Err(error) if matches!(error.kind(), Kind::OutOfOrder | Kind::NotFound) => Ok(()),
            settled => settled.map(drop).map_err(translate),
        }
    }

    async fn create_kept_now(self, ctx: Context) -> Result<(), Error> {
        let mut stage = self.0.stage.lock().await;
        Step::CreateContainer.check(stage.phase, &self.0.id)?;
        let (Some(image), Some(plan)) = (stage.image.clone(), self.0.draft.take()) else {
            return Err(refuse(Step::CreateContainer, Phase::Fresh, &self.0.id));
        };
        let created = self.0.shared.engine.create_kept(&ctx, plan, image).await;
        let (owned, _) = created.map_err(|error| {
            self.0.draft.give_back();
            translate(error)
        })?;
        stage.phase = Phase::Created;
        stage.image = None;
        drop(self.0.container.set(Held::owned(owned, None)));
        Ok(())
    }
}
