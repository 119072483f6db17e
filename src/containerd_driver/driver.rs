//! The driver: connecting, loading images, making cookies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::cookie::ContainerdCookie;
use super::error::{not_connected, translate};
use super::logs::Log;
use super::plan;
use super::sampler::Sampler;
use super::settings::Settings;
use super::shared::Shared;
use crate::Context;
use crate::driver::{
    self, BackOffConfig, Config, ContainerTask, Cookie, Driver, Error, Retry, RetryErrorChecker, host, label,
    notation, version,
};
use crate::engine::Engine;
use crate::ids::unique;

/// A [`Driver`] that runs containers on containerd.
#[derive(Clone)]
pub struct ContainerdDriver(pub(super) Arc<Shared>);

impl std::fmt::Debug for ContainerdDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContainerdDriver")
            .field("instance", &self.0.config.instance_id)
            .field("closed", &self.0.open().is_err())
            .finish_non_exhaustive()
    }
}

impl ContainerdDriver {
    /// Connects, loads the configured images, and starts to remove containers that other instances of this host left.
    ///
    /// # Errors
    /// [`Unavailable`](driver::ErrorKind::Unavailable) if containerd cannot be reached,
    /// [`InvalidConfig`](driver::ErrorKind::InvalidConfig) if it is too old or the configuration is invalid,
    /// [`Unsupported`](driver::ErrorKind::Unsupported) if systemd was chosen to create cgroups but cannot be reached.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn connect(ctx: &Context, config: Config, settings: Settings) -> Result<Self, Error> {
        let grace = settings.close_grace;
        let engine = Engine::connect(ctx, settings.engine(&config)?).await;
        Self::make(ctx, engine.map_err(not_connected)?, config, grace, true).await
    }

    /// A driver on an existing engine, which its creator closes. `grace` is [`Settings::close_grace`].
    ///
    /// # Errors
    /// As for [`Self::connect`].
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn on(
        ctx: &Context,
        engine: Engine,
        config: Config,
        grace: Duration,
    ) -> Result<Self, Error> {
        Self::make(ctx, engine, config, grace, false).await
    }

    async fn make(
        ctx: &Context,
        engine: Engine,
        mut config: Config,
        grace: Duration,
        owns_engine: bool,
    ) -> Result<Self, Error> {
        // As in Fn, a host without an instance id is a new instance at each start, so containers of its previous start
        // belong to another instance.
        if !config.container_label_tag.is_empty() && config.instance_id.is_empty() {
            config.instance_id = unique();
        }
        if !config.server_version.is_empty() {
            let version = engine.server_version(ctx).await.map_err(translate)?;
            version::require("containerd", &config.server_version, &version)?;
        }
        let life = Context::new();
        let driver = Self(Arc::new(Shared {
            sampler: Sampler::start(&engine, &life),
            engine,
            owns_engine,
            config,
            retry: Mutex::new(Retry {
                policy: BackOffConfig::default(),
                checker: driver::retry_transient(),
            }),
            retries: Arc::default(),
            grace,
            life,
        }));
        for file in notation::archives(&driver.0.config.docker_load_file) {
            driver.load(ctx, file).await?;
        }
        let Config {
            container_label_tag,
            instance_id,
            ..
        } = &driver.0.config;
        if !container_label_tag.is_empty() {
            // An empty instance id was replaced above, so the id is not empty here.
            let instance = instance_id.clone();
            let foreign = move |labels: &BTreeMap<String, String>| label::is_of_another(labels, &instance);
            driver
                .0
                .engine
                .sweep((label::CLASSIFIER, container_label_tag), foreign);
        }
        Ok(driver)
    }

    /// Loads the images of an archive, docker-archive or OCI layout. Returns their names. An image without a name is
    /// kept under `localhost/unnamed@sha256:…`, which a [`Task`](crate::driver::Task) can use like any other name.
    ///
    /// # Errors
    /// [`ImageRejected`](driver::ErrorKind::ImageRejected) if the file is no such archive or is damaged; then nothing of
    /// it is kept.
    ///
    /// # Cancellation
    /// Safe to drop: the driver undoes the load on its own task.
    pub async fn load(&self, ctx: &Context, file: &Path) -> Result<Vec<String>, Error> {
        self.0.open()?;
        let loaded = self.0.engine.load(ctx, file).await.map_err(translate)?;
        Ok(loaded.images.into_iter().map(|image| image.record).collect())
    }

    /// What this driver's engine has counted and timed since it connected, in the text format of OpenMetrics 1.0, which
    /// Prometheus reads (content type `application/openmetrics-text; version=1.0.0; charset=utf-8`): calls to containerd
    /// by name and answer, phases of containers by outcome, freezes and thaws, ends of containers by
    /// outcome, leftovers of killed processes, what was done once more after a failure (`fnctr_retries_total`, by reason), messages of logs that
    /// syslog did not take, and what was known of images when it was asked for. With a pool of networks also its slots and
    /// how often one was ready; with a limit for the space of images also what they occupy, and those removed to make room.
    /// Reads nothing outside this process.
    pub fn metrics(&self) -> String {
        self.0.engine.metrics()
    }

    /// Waits until the driver has handled everything that earlier processes left on this machine: containers of other
    /// instances, networks without a container. This work starts with [`ContainerdDriver::connect`] and runs in the
    /// background; what it cannot remove is in the log.
    ///
    /// # Errors
    /// [`Timeout`](driver::ErrorKind::Timeout) or [`Cancelled`](driver::ErrorKind::Cancelled) if `ctx` ends first.
    ///
    /// # Cancellation
    /// Safe to drop: the work continues.
    pub async fn recovered(&self, ctx: &Context) -> Result<(), Error> {
        self.0.engine.recovered(ctx).await.map_err(translate)
    }

    /// How often pulls were retried, by the reason that the retry policy's checker gave: a counter for metrics.
    #[must_use]
    pub fn pull_retries(&self) -> BTreeMap<String, u64> {
        self.0.retries.counts()
    }

    /// A cookie of this driver's own type, for the command line.
    pub(crate) fn cookie(&self, task: Arc<dyn ContainerTask>) -> Result<ContainerdCookie, Error> {
        let plan = plan::plan(task.as_ref(), &self.0.config)?;
        let log = Log::of(task.as_ref())?;
        let takes_stats = task.takes_stats();
        Ok(ContainerdCookie::new(&self.0, task, plan, log, takes_stats))
    }
}

impl ContainerdDriver {
    /// The engine that this driver uses.
    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }
}

#[async_trait]
impl Driver for ContainerdDriver {
    async fn create_cookie(
        &self,
        ctx: &Context,
        task: Arc<dyn ContainerTask>,
    ) -> Result<Box<dyn Cookie>, Error> {
        ctx.check()?;
        self.0.open()?;
        let this = self.clone();
        let cookie = host::call(ctx, "ContainerTask", move || this.cookie(task)).await??;
        Ok(Box::new(cookie))
    }

    fn set_pull_image_retry_policy(
        &self,
        policy: BackOffConfig,
        checker: RetryErrorChecker,
    ) -> Result<(), Error> {
        policy.check()?;
        *self.0.retry.lock().unwrap_or_else(PoisonError::into_inner) = Retry { policy, checker };
        Ok(())
    }

    /// Always empty, because no extension of a call affects a container of this driver.
    fn get_slot_key_extensions(&self, _: &BTreeMap<String, String>) -> String {
        String::new()
    }

    async fn close(&self, ctx: &Context) -> Result<(), Error> {
        self.0.life.cancel();
        if !self.0.owns_engine {
            return Ok(());
        }
        self.0.engine.close(ctx).await.map_err(translate)
    }
}
