//! What a server makes itself: containers, and runs whose streams it holds.

use std::sync::Arc;

use super::restore;
use super::serve::Server;
use super::served::Served;
use crate::Context;
use crate::engine::custody::Custody;
use crate::engine::deps::Engine;
use crate::engine::error::{Error, Kind, Result, Step};
use crate::engine::plan::Plan;
use crate::image::Image;
use crate::stdio::Streams;

/// What a server leaves running when it ends.
const LEFT: Custody = Custody {
    detached: true,
    limit: None,
};

impl Server {
    /// Creates a container that is kept, and does not start it. If it fails, nothing is left.
    ///
    /// # Cancellation
    /// Safe to drop: the creation is undone on its own task.
    pub(crate) async fn create(&self, ctx: &Context, plan: Plan, image: Image) -> Result<Arc<Served>> {
        let id = plan.id.clone();
        let engine = Engine(Arc::clone(&self.shared.deps));
        let owned = engine.create_kept(ctx, plan, image).await?;
        owned.leave().await;
        restore::refresh(&self.shared, ctx, &id).await?;
        let made = self.shared.registry.get(&id);
        made.ok_or_else(|| Error::new(Step::Record, &id, Kind::NotFound, "it was removed a moment ago"))
    }

    /// Starts a container that does not run. Its output goes to those who have attached; with `is_fed`, its input comes
    /// from them. `streams` changes the streams of the run before it begins.
    ///
    /// # Errors
    /// Those of [`Container::start`](crate::engine::Container::start).
    ///
    /// # Cancellation
    /// Safe to drop: the start is undone on its own task.
    pub(crate) async fn start(
        &self,
        ctx: &Context,
        served: &Arc<Served>,
        is_fed: bool,
        streams: impl FnOnce(Streams) -> Result<Streams> + Send + 'static,
    ) -> Result<()> {
        let own = match is_fed {
            true => served.streams().clone(),
            false => served.streams().without_input(),
        };
        let of_run = own.clone();
        let started = served
            .container()
            .start(ctx, LEFT, move |_| async move { streams(of_run.streams()) });
        let run = match started.await {
            Ok(run) => run,
            Err(error) => {
                // The reason is on the record.
                drop(restore::refresh(&self.shared, ctx, served.id()).await);
                return Err(error);
            }
        };
        served.set_needless(&run);
        if let Err(error) = run.share(&own) {
            tracing::warn!(id = %served.id(), error = %crate::chain(&error), "other processes cannot attach to the container");
        }
        Ok(())
    }

    /// Removes a container, and forgets it.
    ///
    /// # Errors
    /// Those of [`Container::remove`](crate::engine::Container::remove).
    ///
    /// # Cancellation
    /// Safe to drop: the removal continues on its own task.
    pub(crate) async fn remove(&self, served: &Arc<Served>) -> Result<()> {
        served.container().remove().await?;
        self.forget(served);
        Ok(())
    }

    /// Forgets a container that this process has removed, before containerd tells of it.
    pub(crate) fn forget(&self, served: &Arc<Served>) {
        self.shared.registry.forget(served);
    }
}
