//! A running pull: its request, and what it works with.

use std::sync::Arc;
use std::time::Duration;

use super::progress::Reporter;
use super::{Request, Shared};
use crate::image::registry::Repository;
use crate::image::scratch::Scratch;
use crate::image::{Error, Platform};
use crate::metrics::Metrics;
use crate::{Context, Interrupted};

/// How long the calls of a cancelled pull may take to return.
const UNWINDING: Duration = Duration::from_secs(5);

/// One pull.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) shared: Arc<Shared>,
    pub(super) request: Request,
    pub(super) reporter: Reporter,
    /// The image's full name.
    pub(super) name: String,
}

impl Job {
    pub(super) fn new(shared: Arc<Shared>, request: Request, reporter: Reporter) -> Self {
        Self {
            name: request.reference.to_string(),
            shared,
            request,
            reporter,
        }
    }

    /// The error if the caller's context ended, or if there is no caller left that wants the image.
    pub(super) fn not_pulled(&self, source: Interrupted) -> Error {
        Error::not_pulled(&self.request.reference, self.reporter.last(), source)
    }
}

/// Waits until the pull has been cancelled and a call to containerd has not returned for a while. Whatever that call
/// still does is held by a lease that is about to be deleted.
pub(super) async fn abandoned(ctx: &Context) -> Interrupted {
    let why = ctx.done().await;
    tokio::time::sleep(UNWINDING).await;
    why
}

/// A pull together with what it works with.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) job: Arc<Job>,
    pub(super) repository: Repository,
    pub(super) scratch: Scratch,
}

impl Work {
    /// What is counted.
    pub(super) fn metrics(&self) -> &Metrics {
        self.job.shared.images.session.metrics()
    }

    /// The platform for which the image is pulled.
    pub(super) fn platform(&self) -> Platform {
        self.job.request.platform.clone().unwrap_or_else(Platform::host)
    }
}
