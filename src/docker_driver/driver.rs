//! The driver: connecting, loading images, making cookies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::cookie::DockerCookie;
use super::daemon::Daemon;
use super::error::{not_connected, not_loaded};
use super::images::{self, Images};
use super::networks::Networks;
use super::orphans::Orphans;
use super::plan::plan;
use super::pool::{self, Means, Pool};
use super::pull::Puller;
use super::settings::{Checked, DockerSettings};
use super::shared::Shared;
use crate::Context;
use crate::driver::{
    BackOffConfig, Config, ContainerTask, Cookie, Driver, Error, PoolState, RetryErrorChecker, host,
    notation, version,
};
use crate::ids::unique;

/// A [`Driver`] that runs containers on a Docker Engine, or on anything else that serves its API: dockerd, and
/// `fnctr serve --docker-socket`.
///
/// It is built with the feature `docker`. A host that runs on the engine's machine may prefer the driver for
/// containerd, which needs no engine. These differences to it are the engine's:
///
/// | | the driver for containerd | here |
/// |---|---|---|
/// | memory that ran out | says whose limit was hit | the container's own, if it has one; else it is not known |
/// | a command that the image lacks | refused at the start | dockerd's init exits with 127 or 126 |
/// | syslog that cannot be reached | fails the create | fails the start, which may be repeated |
/// | an image with VOLUME, accepted | a directory of the writable layer | an anonymous volume, removed with it |
/// | a pool without an image | needs no process | `busybox` with `tail -f /dev/null`, as in Fn |
/// | hostname | the container's name | this machine's on the default network, as in Fn, else the engine's choice |
/// | limits that the host cannot enforce | refused by name | dockerd drops some with a warning, which is logged |
/// | measurements | every metric that the kernel has | what the engine tells: no pressure, no frozen time |
///
/// The paths in a task ([`volumes`](ContainerTask::volumes), [`uds_docker_path`](ContainerTask::uds_docker_path)) are
/// those of the engine's machine.
#[derive(Clone)]
pub struct DockerDriver {
    shared: Arc<Shared>,
    /// The removal of what other instances have left.
    recovery: TaskTracker,
}

impl std::fmt::Debug for DockerDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerDriver")
            .field("instance", &self.shared.config.instance_id)
            .field("closed", &self.shared.open().is_err())
            .finish_non_exhaustive()
    }
}

impl DockerDriver {
    /// Connects, loads the configured images, and starts to remove containers that other instances of this host left.
    ///
    /// # Errors
    /// [`Unavailable`](crate::driver::ErrorKind::Unavailable) if the engine cannot be reached,
    /// [`InvalidConfig`](crate::driver::ErrorKind::InvalidConfig) if it is too old or the configuration is invalid,
    /// [`ImageRejected`](crate::driver::ErrorKind::ImageRejected) if an archive of `docker_load_file` is none.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn connect(ctx: &Context, mut config: Config, settings: DockerSettings) -> Result<Self, Error> {
        let Checked {
            endpoint,
            logins,
            grace,
        } = settings.checked(&config)?;
        let start = unique();
        // As in Fn, a host without an instance id is a new instance at each start, so containers of its previous start
        // belong to another instance.
        if !config.container_label_tag.is_empty() && config.instance_id.is_empty() {
            config.instance_id.clone_from(&start);
        }
        let pooled = pool::Settings::of(&config, &start)?;
        let exempt = images::exempt(&config, pooled.as_ref().map(pool::Settings::image))?;
        let (daemon, found) = Daemon::connect(ctx, &endpoint).await.map_err(not_connected)?;
        version::require("the Docker Engine", &config.server_version, &found)?;
        for file in notation::archives(&config.docker_load_file) {
            load(&daemon, ctx, file).await?;
        }
        let (tracker, life) = (TaskTracker::new(), Context::new());
        let puller = Puller::new(&daemon, logins, &tracker, &life);
        let images = Images::start(&daemon, config.image_clean_max_size, exempt, &tracker, &life);
        let means = Means {
            daemon: daemon.clone(),
            puller: puller.clone(),
            images: images.clone(),
        };
        let recovery = TaskTracker::new();
        if let Some(orphans) = Orphans::of(&config, &start) {
            let removal = recovery.track_future(orphans.remove(daemon.clone(), life.clone()));
            tracker.spawn(removal.in_current_span());
        }
        recovery.close();
        Ok(Self {
            shared: Arc::new(Shared {
                pool: pooled.map(|settings| pool::start(settings, means, &tracker, &life)),
                networks: Networks::default(),
                daemon,
                config,
                puller,
                images,
                grace,
                tracker,
                life,
            }),
            recovery,
        })
    }

    /// Loads the images of an archive on this machine, docker-archive or whatever else the engine reads. The archive is
    /// sent as it is read. Returns the names of the images.
    ///
    /// # Errors
    /// [`ImageRejected`](crate::driver::ErrorKind::ImageRejected) if the engine does not accept the archive,
    /// [`InvalidConfig`](crate::driver::ErrorKind::InvalidConfig) if it cannot be read.
    ///
    /// # Cancellation
    /// Safe to drop; the images may be loaded all the same.
    pub async fn load(&self, ctx: &Context, file: &Path) -> Result<Vec<String>, Error> {
        self.shared.open()?;
        let loaded = load(&self.shared.daemon, ctx, file).await;
        self.shared.images.changed();
        loaded
    }

    /// Waits until the driver has removed the containers of other instances. This work starts with
    /// [`DockerDriver::connect`] and runs in the background; what it cannot remove is in the log.
    ///
    /// # Errors
    /// [`Timeout`](crate::driver::ErrorKind::Timeout) or [`Cancelled`](crate::driver::ErrorKind::Cancelled) if `ctx`
    /// ends first.
    ///
    /// # Cancellation
    /// Safe to drop: the work continues.
    pub async fn recovered(&self, ctx: &Context) -> Result<(), Error> {
        ctx.run(self.recovery.wait()).await?;
        Ok(())
    }

    /// How often pulls were retried, by the reason that the retry policy's checker gave: a counter for metrics.
    #[must_use]
    pub fn pull_retries(&self) -> BTreeMap<String, u64> {
        self.shared.puller.retries()
    }

    /// The state of the pool of prepared networks, for metrics; `None` if there is no pool.
    #[must_use]
    pub fn pool(&self) -> Option<PoolState> {
        self.shared.pool.as_ref().map(Pool::state)
    }

    fn cookie(&self, task: Arc<dyn ContainerTask>) -> Result<DockerCookie, Error> {
        let plan = plan(task.as_ref(), &self.shared.config)?;
        let takes_stats = task.takes_stats();
        Ok(DockerCookie::new(&self.shared, task, plan, takes_stats))
    }
}

async fn load(daemon: &Daemon, ctx: &Context, file: &Path) -> Result<Vec<String>, Error> {
    let names = daemon.load(ctx, file).await.map_err(not_loaded)?;
    tracing::info!(file = %file.display(), ?names, "loaded images");
    Ok(names)
}

#[async_trait]
impl Driver for DockerDriver {
    async fn create_cookie(
        &self,
        ctx: &Context,
        task: Arc<dyn ContainerTask>,
    ) -> Result<Box<dyn Cookie>, Error> {
        ctx.check()?;
        self.shared.open()?;
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
        self.shared.puller.set_policy(policy, checker);
        Ok(())
    }

    /// Always empty, because no extension of a call affects a container of this driver.
    fn get_slot_key_extensions(&self, _: &BTreeMap<String, String>) -> String {
        String::new()
    }

    async fn close(&self, ctx: &Context) -> Result<(), Error> {
        self.shared.life.cancel();
        self.shared.tracker.close();
        let ended = ctx.run(self.shared.tracker.wait()).await;
        ended.map_err(|why| {
            let text = format!("{} tasks of the driver have not ended", self.shared.tracker.len());
            tracing::warn!(%why, "{text}");
            Error::from(why)
        })
    }
}
