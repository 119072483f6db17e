//! What a server makes itself: containers, and runs whose streams it holds.

use std::sync::Arc;

use super::restore;
use super::serve::Server;
use super::served::Served;
use crate::engine::again::NotStarted;
use crate::engine::custody::Custody;
use crate::engine::deps::Engine;
use crate::engine::error::{Error, Kind, Result, Step};
use crate::engine::plan::Plan;
use crate::image::Image;
use crate::stdio::Streams;
use crate::{ContainerName, Context};

/// What a server leaves running when it ends.
const LEFT: Custody = Custody {
    detached: true,
    limit: None,
};

impl Server {
    /// Creates a container that is kept, and does not start it. If it fails, nothing is left.
    ///
    /// # Cancellation
    /// Safe to drop: the creation is undone on its own task, or the container is removed.
    pub(crate) async fn create(&self, ctx: &Context, plan: Plan, image: Image) -> Result<Arc<Served>> {
        let id = plan.id.clone();
        let engine = Engine(Arc::clone(&self.shared.deps));
        let (owned, record) = engine.create_kept(ctx, plan, image).await?;
        // Known before it is left: until then, a failure removes it.
        if let Err(error) = restore::add(&self.shared, ctx, record).await {
            if let Err(error) = owned.container().remove().await {
                tracing::warn!(%id, error = %crate::chain(&error), "cannot remove a container whose creation has failed");
            }
            return Err(error);
        }
        owned.leave().await;
        let made = self.shared.registry.get(&id);
        made.ok_or_else(|| Error::new(Step::Record, &id, Kind::NotFound, "it was removed a moment ago"))
    }

    /// Starts a container that does not run. Its output goes to those who have attached; with `is_fed`, its input comes
    /// from them. `streams` may change the streams of the run before it begins. If the start fails, those who have
    /// attached get the end of the output.
    ///
    /// # Errors
    /// Those of [`Container::start`](crate::engine::Container::start), and of `streams`.
    ///
    /// # Cancellation
    /// Safe to drop: the start is undone on its own task.
    pub(crate) async fn start<F>(
        &self,
        ctx: &Context,
        served: &Arc<Served>,
        is_fed: bool,
        streams: impl FnOnce(Context, Streams) -> F + Send + 'static,
    ) -> Result<()>
    where
        F: Future<Output = Result<Streams>> + Send + 'static,
    {
        self.delivered(served).await;
        let own = match is_fed {
            true => served.streams().clone(),
            false => served.streams().without_input(),
        };
        let (of_run, plan) = (own.clone(), served.plan());
        let terminal = plan.is_ok_and(|plan| plan.config.terminal);
        let started = served
            .container()
            .start(ctx, LEFT, move |ctx| streams(ctx, of_run.streams(terminal)));
        let run = match started.await {
            Ok(run) => run,
            Err(error) => {
                if !NotStarted::is_because_it_runs(&error) {
                    served.streams().end();
                }
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

    /// Gives a container another name.
    ///
    /// # Errors
    /// Those of [`Container::rename`](crate::engine::Container::rename).
    ///
    /// # Cancellation
    /// Safe to drop: the renaming continues on its own task.
    pub(crate) async fn rename(&self, served: &Served, name: ContainerName) -> Result<()> {
        served.container().rename(name).await?;
        let ctx = Context::timeout(self.shared.deps.config.close_grace);
        // Its event follows, if this fails.
        drop(restore::refresh(&self.shared, &ctx, served.id()).await);
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
        self.delivered(served).await;
        served.container().remove().await?;
        self.shared.registry.forget(served);
        Ok(())
    }

    /// Removes a container that does not run, and forgets it.
    ///
    /// # Errors
    /// Those of [`Container::remove_unless_started`](crate::engine::Container::remove_unless_started).
    ///
    /// # Cancellation
    /// Safe to drop: the removal continues on its own task.
    pub(crate) async fn remove_unless_started(&self, served: &Arc<Served>) -> Result<()> {
        self.delivered(served).await;
        served.container().remove_unless_started().await?;
        self.shared.registry.forget(served);
        Ok(())
    }

    /// Waits until those who are attached have all output of the last run, if that has ended and is not removed yet.
    async fn delivered(&self, served: &Served) {
        let run = served.container().run();
        if let Some(run) = run.filter(|run| run.exit_now().is_some()) {
            served.delivered(&run, &self.shared.life).await;
        }
    }
}
