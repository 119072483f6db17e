//! The contract of the Fn Project that every driver here keeps: what a host may rely on, whoever runs its functions.
//!
//! A host describes a function as a [`ContainerTask`] (mostly by filling in a [`Task`]), asks a [`Driver`] for a
//! [`Cookie`], and takes the cookie through its [steps](Step): validate the image, pull it if it is not here, create
//! the container, run it, freeze and unfreeze it between calls, wait, close.
//!
//! The promise:
//! - A failed function is a [`RunResult`]; an [`Error`] means that the driver could not do its job, and its
//!   [`ErrorKind`] is all that a caller needs to act on it.
//! - A cancelled [`Context`] and a passed deadline are told apart, all the way to [`Status`].
//! - All output has been delivered before the result is.
//! - A step out of order is an error, never a panic. Closing is always possible and leaves nothing behind.
//!
//! This module imports the foundation only. It must never name an engine, a transport or a kernel.

mod auth;
mod backoff;
mod config;
mod cookie;
mod error;
mod hooks;
mod image;
mod mock;
mod order;
mod outcome;
mod registry;
mod stats;
mod streams;
mod task;
mod timestamp;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Context;

/// What implements the asynchronous traits here; re-exported, so that a host needs no dependency of its own for it.
pub use async_trait::async_trait;
pub use auth::{Auther, Credentials};
pub use backoff::{BackOff, BackOffConfig, RETRY_FOREVER, RetryErrorChecker, dice, retry_transient};
pub use config::Config;
pub use cookie::{Cookie, WaitResult};
pub use error::{ErrImageWithVolume, ErrSyslogUnavailable, Error, ErrorKind, PullFailed, report};
pub use hooks::{AfterCall, BeforeCall, Call, CallExtensions, Closer, Hooks};
pub use image::parse_image;
pub use mock::{MockAction, MockDriver, MockOptions, MockProgram, MockSetup};
pub use order::{OutOfOrder, Phase, Step};
pub use outcome::{
    ExitFacts, OutOfMemory, RunError, RunResult, StandardStream, Status, StreamFailed, Whose, outcome,
};
pub use registry::{DriverFunc, Registry, new, register};
pub use stats::{Stat, Stats, decimate, metric};
pub use streams::{Captured, Input, Once, Output};
pub use task::{ContainerTask, LoggerConfig, LoggerTag, StatSink, Task};
pub use timestamp::{InvalidTimestamp, Timestamp};

/// A future without a name.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs containers for a host. One per process is usual; it may be shared by any number of tasks.
#[async_trait]
pub trait Driver: fmt::Debug + Send + Sync {
    /// Makes the cookie of a task. Nothing exists yet, but a cookie must be closed in any case.
    async fn create_cookie(
        &self,
        ctx: &Context,
        task: Arc<dyn ContainerTask>,
    ) -> Result<Box<dyn Cookie>, Error>;

    /// Sets how pulls are retried, from the next one on. The policy governs all of it: nothing below it asks a registry again
    /// that has failed or wants to be asked later, so under the default the first failed request fails the pull, and the
    /// host may go elsewhere at once. A transfer that breaks after new bytes goes on by itself, which is no retry.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::InvalidConfig`] if the policy cannot be.
    fn set_pull_image_retry_policy(
        &self,
        policy: BackOffConfig,
        checker: RetryErrorChecker,
    ) -> Result<(), Error>;

    /// The part of a call's extensions that decides whether a running container may serve it, as one text: equal
    /// texts may share a container.
    fn get_slot_key_extensions(&self, extensions: &BTreeMap<String, String>) -> String;

    /// Shuts the driver down: background work ends, steps under way are interrupted and undone, nothing leaks. Every later
    /// call is refused with [`ErrorKind::Unavailable`], but closing a cookie, which still removes its container. A function
    /// that runs is the host's to end by its cookie, before or after: nobody watches it from here on, so a wait for it ends
    /// with [`RunError::DriverClosed`]. May be called again.
    async fn close(&self, ctx: &Context) -> Result<(), Error>;
}

/// Locks for a few lines that cannot leave the value half-changed, so that poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
