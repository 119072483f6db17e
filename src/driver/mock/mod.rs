//! A simulated driver: it keeps the whole contract in memory and runs scripted programs, so that a host can be tested
//! without an engine.
//!
//! It follows the order of steps, the rules of streams and the table of endings like any other driver, and passes the
//! same conformance suite. It has no kernel: it accepts limits and does not enforce them.

mod cookie;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::cookie::MockCookie;
use super::{
    BackOff, BackOffConfig, ContainerTask, Cookie, Driver, Error, ErrorKind, RetryErrorChecker, Stat, dice,
    lock, retry_transient,
};
use crate::{ContainerId, Context};

/// One action of a scripted program.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum MockAction {
    /// Does nothing for a while.
    Sleep(Duration),
    /// Writes to standard output.
    Stdout(Vec<u8>),
    /// Writes to standard error.
    Stderr(Vec<u8>),
    /// Copies standard input to standard output until the input ends.
    Echo,
    /// Writes the value of an environment variable and a line feed to standard output.
    PrintEnv(String),
    /// Reports this measurement to the task.
    Stat(Stat),
    /// Is killed for lack of memory, at the task's limit.
    OutOfMemory,
}

/// The behaviour of a command: its actions in turn, then its exit. The default exits with code 0 at once.
#[derive(Debug, Clone, Default)]
pub struct MockProgram {
    /// The actions, in order.
    pub actions: Vec<MockAction>,
    /// The exit code; 137 stands for a SIGKILL.
    pub exit_code: u32,
}

/// The simulated environment of a [`MockDriver`]. By default it has every image, and every command succeeds.
#[derive(Debug, Clone, Default)]
pub struct MockSetup {
    /// The images on this machine; `None` means all images.
    pub images: Option<BTreeSet<String>>,
    /// The images that a pull finds.
    pub registry: BTreeSet<String>,
    /// How many tries to pull fail, with a retryable error, before one succeeds.
    pub failing_pulls: u32,
    /// The program of each command; with `None` every command succeeds at once.
    pub programs: Option<BTreeMap<String, MockProgram>>,
}

/// The options of a mock container: the value of [`Cookie::container_options`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MockOptions {
    /// The command that chooses the program.
    pub command: String,
    /// The environment of the program.
    pub env: BTreeMap<String, String>,
}

/// The simulated driver.
#[derive(Debug, Default)]
pub struct MockDriver {
    world: Arc<World>,
}

impl MockDriver {
    /// Creates a driver in this environment.
    #[must_use]
    pub fn new(setup: MockSetup) -> Self {
        let here = Mutex::new(Here {
            images: setup.images.clone(),
            failing_pulls: setup.failing_pulls,
            ..Here::default()
        });
        Self {
            world: Arc::new(World {
                setup,
                here,
                ..World::default()
            }),
        }
    }

    /// The ids of the containers that exist, sorted.
    #[must_use]
    pub fn containers(&self) -> Vec<String> {
        lock(&self.world.here).containers.iter().cloned().collect()
    }
}

#[async_trait]
impl Driver for MockDriver {
    async fn create_cookie(
        &self,
        ctx: &Context,
        task: Arc<dyn ContainerTask>,
    ) -> Result<Box<dyn Cookie>, Error> {
        ctx.check()?;
        self.world.open()?;
        ContainerId::new(task.id())?;
        Ok(Box::new(MockCookie::new(Arc::clone(&self.world), task)))
    }

    fn set_pull_image_retry_policy(
        &self,
        policy: BackOffConfig,
        checker: RetryErrorChecker,
    ) -> Result<(), Error> {
        policy.check()?;
        *lock(&self.world.retry) = Retry { policy, checker };
        Ok(())
    }

    fn get_slot_key_extensions(&self, _: &BTreeMap<String, String>) -> String {
        String::new()
    }

    async fn close(&self, ctx: &Context) -> Result<(), Error> {
        self.world.closing.cancel();
        self.world.processes.close();
        Ok(ctx.run(self.world.processes.wait()).await?)
    }
}

/// The state that all cookies of a driver share.
#[derive(Debug, Default)]
struct World {
    setup: MockSetup,
    here: Mutex<Here>,
    retry: Mutex<Retry>,
    processes: TaskTracker,
    closing: CancellationToken,
}

#[derive(Debug, Default)]
struct Here {
    images: Option<BTreeSet<String>>,
    containers: BTreeSet<String>,
    failing_pulls: u32,
}

#[derive(Clone)]
struct Retry {
    policy: BackOffConfig,
    checker: RetryErrorChecker,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            policy: BackOffConfig::default(),
            checker: retry_transient(),
        }
    }
}

impl std::fmt::Debug for Retry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Retry").field(&self.policy).finish()
    }
}

impl World {
    fn open(&self) -> Result<(), Error> {
        if self.closing.is_cancelled() {
            return Err(Error::closed());
        }
        Ok(())
    }

    fn has(&self, image: &str) -> bool {
        let here = lock(&self.here);
        here.images.as_ref().is_none_or(|images| images.contains(image))
    }

    async fn pull(&self, ctx: &Context, image: &str) -> Result<(), Error> {
        let Retry { policy, checker } = lock(&self.retry).clone();
        let mut schedule = BackOff::new(policy);
        loop {
            ctx.check()?;
            let Err(error) = self.try_pull(image) else {
                return Ok(());
            };
            if checker(&error).is_none() {
                return Err(error);
            }
            match schedule.next_delay(dice()) {
                Some(delay) => ctx.run(tokio::time::sleep(delay)).await?,
                None => return Err(error),
            }
        }
    }

    fn try_pull(&self, image: &str) -> Result<(), Error> {
        let mut here = lock(&self.here);
        if here.failing_pulls > 0 {
            here.failing_pulls -= 1;
            return Err(Error::pull(image, None, "connection reset"));
        }
        if let Some(images) = here.images.as_mut().filter(|images| !images.contains(image)) {
            if !self.setup.registry.contains(image) {
                return Err(Error::pull(image, Some(404), "manifest unknown"));
            }
            images.insert(image.to_owned());
        }
        Ok(())
    }

    fn program(&self, command: &str) -> Option<MockProgram> {
        match &self.setup.programs {
            None => Some(MockProgram::default()),
            Some(programs) => programs.get(command).cloned(),
        }
    }

    /// Reserves the name of a container until the returned guard is dropped.
    fn claim(self: &Arc<Self>, id: &str) -> Result<Name, Error> {
        if !lock(&self.here).containers.insert(id.to_owned()) {
            let text = format!("a container named {id:?} exists already");
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        Ok(Name {
            world: Arc::clone(self),
            id: id.to_owned(),
        })
    }
}

/// The name of an existing container.
#[derive(Debug)]
struct Name {
    world: Arc<World>,
    id: String,
}

impl Drop for Name {
    fn drop(&mut self) {
        lock(&self.world.here).containers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Task;

    fn remote(failing_pulls: u32) -> MockDriver {
        MockDriver::new(MockSetup {
            images: Some(BTreeSet::new()),
            registry: BTreeSet::from(["a/b".to_owned()]),
            failing_pulls,
            programs: None,
        })
    }

    async fn pull(driver: &MockDriver, ctx: &Context) -> Result<bool, Error> {
        let task = Task {
            id: "c1".to_owned(),
            image: "a/b".to_owned(),
            ..Task::default()
        };
        let cookie = driver.create_cookie(ctx, Arc::new(task)).await?;
        assert!(cookie.validate_image(ctx).await?);
        cookie.pull_image(ctx).await?;
        cookie.validate_image(ctx).await
    }

    const PATIENT: BackOffConfig = BackOffConfig {
        max_retries: 3,
        interval: 1000,
        max_delay: 10_000,
        min_delay: 1000,
    };

    #[tokio::test(start_paused = true)]
    async fn a_pull_is_retried_as_the_policy_says() {
        let driver = remote(3);
        driver
            .set_pull_image_retry_policy(PATIENT, retry_transient())
            .unwrap();
        let missing = pull(&driver, &Context::new()).await.unwrap();
        assert!(!missing);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_is_not_retried_beyond_the_policy() {
        let driver = remote(4);
        driver
            .set_pull_image_retry_policy(PATIENT, retry_transient())
            .unwrap();
        let error = pull(&driver, &Context::new()).await.unwrap_err();
        assert_eq!(error.report(), "Failed to pull image 'a/b': connection reset");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_that_waits_to_be_retried_honours_its_deadline() {
        let driver = remote(4);
        driver
            .set_pull_image_retry_policy(PATIENT, retry_transient())
            .unwrap();
        let ctx = Context::timeout(Duration::from_millis(500));
        assert_eq!(pull(&driver, &ctx).await.unwrap_err().kind(), ErrorKind::Timeout);
    }

    #[tokio::test]
    async fn a_closed_driver_makes_no_cookies() {
        let driver = MockDriver::default();
        driver.close(&Context::new()).await.unwrap();
        let task = Task {
            id: "c1".to_owned(),
            ..Task::default()
        };
        let error = driver
            .create_cookie(&Context::new(), Arc::new(task))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_refused() {
        let task = Task {
            id: "../c1".to_owned(),
            ..Task::default()
        };
        let error = MockDriver::default()
            .create_cookie(&Context::new(), Arc::new(task))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidTask);
    }
}
