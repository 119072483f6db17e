//! What a server makes itself: containers, and runs whose streams it holds.

use std::sync::Arc;

use super::restore;
use super::serve::Server;
use super::served::Served;
use super::start_run::start_run;
use super::starter::Starter;
use crate::engine::again::StartedBy;
use crate::engine::deps::Engine;
use crate::engine::error::{Error, Kind, Result, Step};
use crate::engine::plan::Plan;
use crate::engine::update::Update;
use crate::image::Image;
use crate::stdio::Streams;
use crate::{ContainerName, Context};

impl Server {
    /// Creates a container that is kept, and does not start it. If it fails, nothing is left.
    ///
    /// # Cancellation
    /// Safe to drop: the creation is undone on its own task, or the container is removed.
    pub(crate) async fn create(&self, ctx: &Context, plan: Plan, image: Image) -> Result<Arc<Served>> {
        let (id, volumes) = (plan.id.clone(), plan.volumes.clone());
        let engine = Engine(Arc::clone(&self.shared.deps));
        let (owned, record) = engine.create_kept(ctx, plan, image).await?;
        // Known before it is left: until then, a failure removes it.
        if let Err(error) = restore::add(&self.shared, ctx, record).await {
            if let Err(error) = owned.container().remove().await {
                tracing::warn!(%id, error = %crate::chain(&error), "cannot remove a container whose creation has failed");
            }
            engine.remove_anonymous_volumes(ctx, &volumes).await;
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
        by: StartedBy,
        streams: impl FnOnce(Context, Streams) -> F + Send + 'static,
    ) -> Result<()>
    where
        F: Future<Output = Result<Streams>> + Send + 'static,
    {
        let started = start_run(&self.shared, ctx, served, (is_fed, by), streams).await;
        if started.is_err() {
            // The reason is on the record.
            drop(restore::refresh(&self.shared, ctx, served.id()).await);
        }
        started
    }

    /// Lets the server start containers again as `starter` does.
    pub(crate) fn set_starter(&self, starter: Starter) {
        self.shared.starter.set(starter);
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

    /// Changes the limits of a container.
    ///
    /// # Errors
    /// Those of [`Container::update`](crate::engine::Container::update).
    ///
    /// # Cancellation
    /// Safe to drop: the change continues on its own task.
    pub(crate) async fn update(&self, served: &Served, update: Update) -> Result<()> {
        let updated = served.container().update(update).await;
        let ctx = Context::timeout(self.shared.deps.config.close_grace);
        // Its event follows, if this fails. A change that was taken back is one, too.
        drop(restore::refresh(&self.shared, &ctx, served.id()).await);
        updated
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
        self.shared.names.forget(served.id());
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
        self.shared.names.forget(served.id());
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
