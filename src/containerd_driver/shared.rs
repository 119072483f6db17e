//! The state that a driver and its cookies share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::sampler::Sampler;
use crate::driver::{Config, Error, ErrorKind, Retries, Retry};
use crate::engine::Engine;
use crate::{Context, tracked};

/// The state that all cookies share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) engine: Engine,
    /// Whether closing the driver also closes the engine.
    pub(super) owns_engine: bool,
    pub(super) config: Config,
    pub(super) retry: Mutex<Retry>,
    pub(super) sampler: Sampler,
    pub(super) retries: Arc<Retries>,
    /// How long the host's own clean-up may take when a cookie is closed.
    pub(super) grace: Duration,
    /// Cancelled when the driver is closed.
    pub(super) life: Context,
}

impl Shared {
    /// The current retry policy.
    pub(super) fn retry(&self) -> Retry {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fails if the driver is closed.
    pub(super) fn open(&self) -> Result<(), Error> {
        self.life.check().map_err(|_| Error::closed())
    }

    /// The error of an operation for a caller with this context: an operation that was cancelled only by closing the
    /// driver fails as closed.
    pub(super) fn or_closed(&self, ctx: &Context, error: Error) -> Error {
        if error.kind() == ErrorKind::Cancelled && ctx.check().is_ok() && self.open().is_err() {
            return Error::closed();
        }
        error
    }

    /// Runs an operation on a task of the driver's own; if the caller drops its future, the operation is cancelled.
    pub(super) async fn tracked<T, F>(&self, ctx: &Context, op: impl FnOnce(Context) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let done = tracked::run(self.engine.tracker(), ctx, op).await;
        done.map_err(|panic| Error::new(ErrorKind::Internal, panic))?
    }

    /// Runs an operation to its end, even if the caller drops its future.
    pub(super) async fn finished<T: Send + 'static>(
        &self,
        op: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let done = tracked::finish(self.engine.tracker(), op).await;
        done.map_err(|panic| Error::new(ErrorKind::Internal, panic))?
    }
}
