//! The driver contract on the engine: translates in, calls the engine, translates out. Never calls containerd itself.

mod cookie;
mod error;
mod images;
mod logs;
mod options;
mod plan;
mod pool;
mod pull;
mod registries;
mod sampler;
mod settings;
mod stats;
mod version;
mod wait;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use self::cookie::ContainerdCookie;
pub(crate) use self::error::translate;
use self::logs::Log;
pub use self::options::ContainerOptions;
pub use self::pool::PoolState;
use self::pull::Retries;
pub(crate) use self::pull::Wanted;
pub use self::registries::Registries;
use self::sampler::Sampler;
pub use self::settings::Settings;
pub(crate) use self::stats::stat;
use self::wait::Started;
use crate::driver::{
    self, BackOffConfig, Config, ContainerTask, Cookie, Driver, Error, ErrorKind, Phase, RetryErrorChecker,
    Task, WaitResult,
};
pub use crate::engine::{CgroupDriver, Network, UnknownDriver};
use crate::engine::{Container, Engine, Seen, Usage, unique};
pub use crate::sandbox::{InvalidPortMapping, NetworkSettings, PortMapping, Protocol};
use crate::{ContainerId, Context, tracked};

/// How long connecting may take when a driver is made by name, where nobody gives a deadline.
const CONNECT: Duration = Duration::from_secs(10);

/// What every cookie needs.
#[derive(Debug)]
struct Shared {
    engine: Engine,
    config: Config,
    retry: Mutex<Retry>,
    sampler: Sampler,
    retries: Arc<Retries>,
    /// Ends with the driver.
    life: Context,
}

/// How pulls are retried.
#[derive(Clone)]
struct Retry {
    policy: BackOffConfig,
    checker: RetryErrorChecker,
}

impl std::fmt::Debug for Retry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { policy, checker: _ } = self;
        f.debug_struct("Retry")
            .field("policy", policy)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The retry policy of now.
    fn retry(&self) -> Retry {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs an operation on a task of the driver's own; a caller that goes away cancels it.
    async fn tracked<T, F>(&self, ctx: &Context, op: impl FnOnce(Context) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let done = tracked::run(self.engine.tracker(), ctx, op).await;
        done.map_err(|panic| Error::new(ErrorKind::Internal, panic))?
    }

    /// Runs an operation that goes on to its end, whoever waits for it.
    async fn finished<T: Send + 'static>(
        &self,
        op: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let done = tracked::finish(self.engine.tracker(), op).await;
        done.map_err(|panic| Error::new(ErrorKind::Internal, panic))?
    }
}

/// A container that was taken over from an earlier process; see [`ContainerdDriver::adopt`].
#[derive(Debug)]
pub struct Adopted {
    /// To freeze, unfreeze and close it. Dropped without a close, it leaves the container as it is.
    pub cookie: Box<dyn Cookie>,
    /// To wait for its end.
    pub running: Box<dyn WaitResult>,
}

/// A [`Driver`] that runs containers on containerd.
#[derive(Debug, Clone)]
pub struct ContainerdDriver(Arc<Shared>);

impl ContainerdDriver {
    /// Connects, loads the configured images, and begins to remove what other instances of this host left.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if containerd cannot be reached, [`ErrorKind::InvalidConfig`] if it is too old or the
    /// configuration cannot be, [`ErrorKind::Unsupported`] if systemd was chosen to make cgroups and is not to be had.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn connect(ctx: &Context, mut config: Config, settings: Settings) -> Result<Self, Error> {
        // As in Fn: who has no name is a new instance at each start, and what the one before left is nobody's.
        if !config.container_label_tag.is_empty() && config.instance_id.is_empty() {
            config.instance_id = unique();
        }
        let engine = Engine::connect(ctx, settings.engine(&config)?)
            .await
            .map_err(translate)?;
        version::require(
            &config.server_version,
            &engine.server_version(ctx).await.map_err(translate)?,
        )?;
        let life = Context::new();
        let driver = Self(Arc::new(Shared {
            sampler: Sampler::start(&engine, &life),
            engine,
            config,
            retry: Mutex::new(Retry {
                policy: BackOffConfig::default(),
                checker: driver::retry_transient(),
            }),
            retries: Arc::default(),
            life,
        }));
        for file in driver.0.config.docker_load_file.split_whitespace() {
            driver.load(ctx, Path::new(file)).await?;
        }
        let Config {
            container_label_tag,
            instance_id,
            ..
        } = &driver.0.config;
        if !container_label_tag.is_empty() {
            driver.0.engine.sweep(container_label_tag, instance_id);
        }
        Ok(driver)
    }

    /// Loads the images of an archive, docker-archive or OCI layout. Returns their names.
    ///
    /// # Errors
    /// [`ErrorKind::ImageRejected`] if the file is no such archive or is damaged; nothing of it is left then.
    ///
    /// # Cancellation
    /// Safe to drop: it unwinds on its own task.
    pub async fn load(&self, ctx: &Context, file: &Path) -> Result<Vec<String>, Error> {
        self.0.engine.load(ctx, file).await.map_err(translate)
    }

    /// Waits until the driver has dealt with what earlier processes left on this host: containers of other instances,
    /// networks that no container has. It begins with [`ContainerdDriver::connect`] and goes on beside everything else; what
    /// it cannot remove is in the log.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] or [`ErrorKind::Cancelled`] if `ctx` ends first.
    ///
    /// # Cancellation
    /// Safe to drop: the work goes on.
    pub async fn recovered(&self, ctx: &Context) -> Result<(), Error> {
        self.0.engine.recovered(ctx).await.map_err(translate)
    }

    /// How often pulls were begun again, by the reason that the retry policy's checker gave: a counter for metrics.
    #[must_use]
    pub fn pull_retries(&self) -> BTreeMap<String, u64> {
        self.0.retries.counts()
    }

    /// Takes over a container that an earlier process made. Its streams were that process's and are not attached again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none of that name.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn adopt(&self, ctx: &Context, id: &ContainerId) -> Result<Adopted, Error> {
        let container = self.0.engine.adopt(ctx, id).await.map_err(translate)?;
        let seen = self.0.engine.inspect(ctx, id).await.map_err(translate)?;
        let phase = if container.is_created().await {
            Phase::Created
        } else {
            Phase::Running
        };
        let task = Task {
            id: id.to_string(),
            image: seen.image,
            disable_net: true,
            ..Task::default()
        };
        let plan = plan::plan(&task, &self.0.config)?;
        let running = Box::new(Started::new(container.clone(), Context::new()));
        let cookie = Box::new(ContainerdCookie::adopted(
            &self.0,
            Arc::new(task),
            plan,
            container,
            phase,
        ));
        Ok(Adopted { cookie, running })
    }

    /// A cookie of this driver's own type, for the command line.
    pub(crate) fn cookie(&self, task: Arc<dyn ContainerTask>) -> Result<ContainerdCookie, Error> {
        let plan = plan::plan(task.as_ref(), &self.0.config)?;
        let log = Log::of(task.as_ref())?;
        Ok(ContainerdCookie::new(&self.0, task, plan, log))
    }

    /// A container that an earlier process made, without the contract's order around it.
    pub(crate) async fn take_over(&self, ctx: &Context, id: &ContainerId) -> Result<Container, Error> {
        self.0.engine.adopt(ctx, id).await.map_err(translate)
    }

    /// The engine below, for the command line.
    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Every container of ours, as it is now.
    pub(crate) async fn list(&self, ctx: &Context) -> Result<Vec<Seen>, Error> {
        self.0.engine.list(ctx).await.map_err(translate)
    }

    /// Every container of ours, and what those use that run.
    pub(crate) async fn usages(&self, ctx: &Context) -> Result<Vec<(Seen, Option<Usage>)>, Error> {
        self.0.engine.usages(ctx).await.map_err(translate)
    }

    /// One container, as it is now.
    pub(crate) async fn inspect(&self, ctx: &Context, id: &ContainerId) -> Result<Seen, Error> {
        self.0.engine.inspect(ctx, id).await.map_err(translate)
    }

    /// Sends a signal to a container, whoever made it.
    pub(crate) async fn signal(&self, ctx: &Context, id: &ContainerId, signal: u32) -> Result<(), Error> {
        let container = self.0.engine.adopt(ctx, id).await.map_err(translate)?;
        let sent = container.signal(ctx, signal).await.map_err(translate);
        container.detach().await;
        sent
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
        Ok(Box::new(self.cookie(task)?))
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

    /// Nothing in a call's extensions changes what a container of this driver is.
    fn get_slot_key_extensions(&self, _: &BTreeMap<String, String>) -> String {
        String::new()
    }

    async fn close(&self, ctx: &Context) -> Result<(), Error> {
        self.0.life.cancel();
        self.0.engine.close(ctx).await.map_err(translate)
    }
}

/// Registers this driver under the name `containerd`, with default [`Settings`] and the credentials of this process's
/// environment ([`Registries::from_env`]); the socket is the configuration's `docker` field.
///
/// # Errors
/// [`ErrorKind::Conflict`] if the name is taken.
pub fn register() -> Result<(), Error> {
    let make: driver::DriverFunc = Arc::new(|config| {
        Box::pin(async move {
            let settings = Settings {
                registries: Registries::from_env(),
                ..Settings::default()
            };
            let driver = ContainerdDriver::connect(&Context::timeout(CONNECT), config, settings).await?;
            Ok(Arc::new(driver) as Arc<dyn Driver>)
        })
    });
    driver::register("containerd", make)
}
