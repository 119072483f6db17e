//! The contract of the Fn Project that every driver here keeps: what a host may rely on, whichever driver runs its
//! functions. The host is the functions platform that uses this crate.
//!
//! A host describes a function as a [`ContainerTask`] (usually by filling in a [`Task`]), gets a [`Cookie`] for it from
//! a [`Driver`], and takes the cookie through its [steps](Step): validate the image, pull it if it is not here, create
//! the container, run it, freeze and unfreeze it between calls, wait, close.
//!
//! Guarantees:
//! - A failed function is a [`RunResult`]; an [`Error`] means that the driver could not do its job, and its
//!   [`ErrorKind`] is all that a caller needs to react.
//! - A cancelled [`Context`] and a passed deadline are distinguished everywhere, up to [`Status`].
//! - All output has been delivered before the result is returned.
//! - A step out of order is an error, never a panic. Closing is always possible and leaves nothing behind.
//!
//! # Where this differs from Fn's Go driver
//!
//! These differences are intended, in addition to errors and statistics that are more precise here:
//!
//! | | Fn's driver on Docker | here |
//! |---|---|---|
//! | a second create | does nothing | [`ErrorKind::OutOfOrder`] |
//! | a pull of an image that is here | does nothing | asks the registry; validate again afterwards |
//! | closing a cookie | leaves the task's own `close` to the agent | calls [`ContainerTask::close`] |
//! | SIGKILL without an out-of-memory kill | reported as out of memory | killed by signal 9 |
//! | exit code 137 of an out-of-memory kill | names no limit | names the limit that was hit, and whose it is |
//! | an image with VOLUME, refused | an API error, not a user error | [`ErrImageWithVolume`], the function's fault |
//! | an image with VOLUME, accepted | an anonymous Docker volume | a directory of the container's writable layer: within `fs_size` |
//! | a pull that passes its deadline | 502, the function's fault | [`ErrorKind::Timeout`], not the function's fault |
//! | a freeze that fails | the agent kills the container | the container runs on, and can be used |
//! | `volumes` | named volumes, sources made on demand, all of Docker's modes | sources must exist; `:ro` and `:rw` |
//! | hostname | the host's, on the default network | the container's own name on every network but the host's |
//! | `/sys/fs/cgroup` on cgroup v1 | the host's paths | the container's own cgroup is the root, as on v2 |
//! | AppArmor | the profile docker-default | none, unless the driver's options name one |
//! | syslog over TLS | accepted | refused |
//! | limits that the host cannot enforce | some are dropped with a warning | [`ErrorKind::Unsupported`], by name |
//! | `mem_usage`, `mem_limit` | with the page cache; the host's memory without a limit | without it; absent |
//! | processes that hold the pool's networks | the image's user | 1000:1000 without capabilities |
//!
//! Message texts differ too, except `container exit code N` and `Failed to pull image 'X': reason`: depend on
//! [`ErrorKind`], [`Status`] and codes instead. Docker's metrics (`docker_api_latency` and its kin) have no
//! counterpart.
//!
//! This module imports only the foundation. It must never name an engine, a transport or a kernel.

mod auth;
mod backoff;
mod config;
mod cookie;
mod error;
pub(crate) mod guarded;
mod hooks;
pub(crate) mod host;
mod image;
pub(crate) mod label;
mod mock;
pub(crate) mod notation;
mod order;
mod outcome;
mod pool_state;
mod registry;
mod retries;
mod retry;
mod stats;
mod streams;
mod task;
mod timestamp;
pub(crate) mod version;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Context;

/// Implements the asynchronous traits here; re-exported, so that a host needs no dependency of its own for it.
pub use async_trait::async_trait;
pub use auth::{Auther, Credentials};
pub use backoff::{BackOff, BackOffConfig, RETRY_FOREVER, RetryErrorChecker, dice, retry_transient};
pub use config::Config;
pub use cookie::{Cookie, WaitResult};
pub use error::{
    ErrImageWithVolume, ErrSyslogUnavailable, Error, ErrorKind, ExecFailure, PullFailed, report,
};
pub use hooks::{AfterCall, BeforeCall, Call, CallExtensions, Closer, Hooks};
pub use image::parse_image;
pub use mock::{MockAction, MockDriver, MockOptions, MockProgram, MockSetup};
pub use order::{OutOfOrder, Phase, Step};
pub use outcome::{
    ExitFacts, OutOfMemory, RunError, RunResult, StandardStream, Status, StreamFailed, Whose, outcome,
};
pub use pool_state::PoolState;
pub use registry::{DriverFunc, Registry, new, register};
pub use stats::{Stat, Stats, decimate, metric};
pub use streams::{Captured, Input, Once, Output};
pub use task::{ContainerTask, LoggerConfig, LoggerTag, StatSink, Task};
pub use timestamp::{InvalidTimestamp, Timestamp};

pub(crate) use retries::Retries;
pub(crate) use retry::Retry;

/// A boxed future.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs containers for a host. One driver per process is usual; any number of tasks may share it.
#[async_trait]
pub trait Driver: fmt::Debug + Send + Sync {
    /// Creates the cookie of a task. Creates no container yet, but every cookie must be closed.
    async fn create_cookie(
        &self,
        ctx: &Context,
        task: Arc<dyn ContainerTask>,
    ) -> Result<Box<dyn Cookie>, Error>;

    /// Sets how pulls are retried, from the next pull on. The policy governs all retries: below it, no request is
    /// repeated to a registry that has failed or wants to be asked later. So under the default policy the first failed
    /// request fails the pull, and the host may go elsewhere at once. A transfer that breaks after new bytes continues
    /// by itself, which is not a retry.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::InvalidConfig`] if the policy contradicts itself.
    fn set_pull_image_retry_policy(
        &self,
        policy: BackOffConfig,
        checker: RetryErrorChecker,
    ) -> Result<(), Error>;

    /// The part of a call's extensions that decides whether a running container may serve the call, as one text: calls
    /// with equal texts may share a container.
    fn get_slot_key_extensions(&self, extensions: &BTreeMap<String, String>) -> String;

    /// Shuts the driver down: background work ends, steps under way are interrupted and undone, nothing leaks. Every
    /// later call fails with [`ErrorKind::Unavailable`], except closing a cookie, which still removes its container.
    /// The host must end running functions itself through their cookies, before or after: the driver no longer watches
    /// them, so a wait for one ends with [`RunError::DriverClosed`]. May be called again.
    async fn close(&self, ctx: &Context) -> Result<(), Error>;
}

/// Locks a mutex for a few lines that cannot leave the value half-changed, so that poisoning can be ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
