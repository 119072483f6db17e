//! The state that a driver and its cookies share.

use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::daemon::Daemon;
use super::images::Images;
use super::networks::Networks;
use super::pool::Pool;
use super::pull::Puller;
use crate::driver::{Config, Error, ErrorKind};
use crate::{Context, tracked};

/// How long a step whose caller's time is over may take to say so in its own words.
const MOMENT: Duration = Duration::from_millis(100);

/// The state that all cookies share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) daemon: Daemon,
    pub(super) config: Config,
    pub(super) puller: Puller,
    pub(super) images: Images,
    pub(super) networks: Networks,
    pub(super) pool: Option<Pool>,
    /// How long a removal may take, and then the host's own clean-up.
    pub(super) grace: Duration,
    /// Every task of the driver; a close waits for them.
    pub(super) tracker: TaskTracker,
    /// Cancelled when the driver is closed.
    pub(super) life: Context,
}

impl Shared {
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
        let done = tracked::run(&self.tracker, ctx, op).await;
        done.map_err(|panic| Error::new(ErrorKind::Internal, panic))?
    }

    /// Runs an operation to its end, even if the caller drops its future.
    pub(super) async fn finished<T: Send + 'static>(
        &self,
        op: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let done = tracked::finish(&self.tracker, op).await;
        done.map_err(|panic| Error::new(ErrorKind::Internal, panic))?
    }
}

impl Drop for Shared {
    /// A driver that is dropped without a close leaves nothing running that no cookie needs.
    fn drop(&mut self) {
        self.life.cancel();
    }
}

/// Awaits a step that goes on by itself, until it is done or `ctx` has ended; then for a moment longer, because the step
/// may say better what was interrupted.
///
/// # Cancellation
/// As that of the step.
pub(super) async fn answered<T>(
    ctx: &Context,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut step = std::pin::pin!(step);
    match ctx.run(&mut step).await {
        Ok(done) => done,
        Err(why) => {
            let done = tokio::time::timeout(MOMENT, step).await;
            done.unwrap_or_else(|_| Err(why.into()))
        }
    }
}
