//! Pulls under the host's retry policy, with the task's own credentials before the driver's.
//!
//! The image module does the work of a pull, and serves all callers that want the same image at the same time with one
//! pull. So the retry policy applies to that one pull, with the policy that was set when it began, and not to each
//! caller's own loop.

use std::sync::Arc;
use std::time::Duration;

use super::error::translate;
use super::shared::Shared;
use crate::Context;
use crate::driver::{BackOff, ContainerTask, Credentials, Error, Retry, dice, host};
use crate::engine::{Plan, Pulling};
use crate::image::{self, Again, Credential, Pin, Request};

/// If a registry asks for a longer wait than this, the pull is not retried.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long the retry policy's checker may take. Meanwhile it blocks a thread of the executor.
const JUDGING: Duration = Duration::from_secs(1);

/// Pulls the image of a task until it is present, the policy allows no more tries, or the error is not worth a retry.
/// The cleaner keeps the image from before the pull until the [`Pin`] is dropped.
pub(super) async fn pull(
    shared: &Arc<Shared>,
    ctx: &Context,
    plan: &Plan,
    task: &Arc<dyn ContainerTask>,
) -> Result<Option<Pin>, Error> {
    ctx.check()?;
    let familiar = plan.image.familiar();
    let credential = credential(ctx, task).await?;
    let request = Request {
        reference: plan.image.clone(),
        platform: None,
        credential,
    };
    let hold = shared.engine.hold(ctx, plan).await.map_err(translate)?;
    let image = begin(shared, request).done(ctx).await;
    let image = image.map_err(|why| failed(&familiar, why))?;
    let pin = shared.engine.keep(ctx, plan, hold, &image).await;
    pin.map(Some).map_err(translate)
}

/// The task's own credentials, if it provides any.
async fn credential(ctx: &Context, task: &Arc<dyn ContainerTask>) -> Result<Option<Credential>, Error> {
    let asked = Arc::clone(task);
    let auther = host::call(ctx, "ContainerTask::auther", move || asked.auther()).await?;
    let Some(auther) = auther else { return Ok(None) };
    let task = Arc::clone(task);
    let ask = |ctx| async move { auther.credentials(&ctx, task.image()).await };
    let given = host::wait(ctx, "Auther::credentials", ask).await??;
    Ok(given.map(own))
}

/// Begins a pull under the current policy, or joins a running one.
pub(super) fn begin(shared: &Arc<Shared>, request: Request) -> Pulling {
    let Retry { policy, checker } = shared.retry();
    let (shared_by_all, image) = (Arc::clone(&shared.retries), request.reference.familiar());
    let mut delays = BackOff::new(policy);
    let again: Again = Box::new(move |why| {
        let error = judged(&image, why, crate::chain(why));
        let report = error.report();
        let checker = Arc::clone(&checker);
        let asked = host::within(JUDGING, "the checker of the retry policy", move || {
            checker(&error)
        });
        let reason = asked.unwrap_or_else(|broken| {
            tracing::warn!(image, error = %crate::chain(&broken), "the pull is not retried");
            None
        })?;
        let after = why.retry_after().unwrap_or_default();
        if after > LONGEST_WAIT {
            return None;
        }
        let delay = delays.next_delay(dice())?.max(after);
        shared_by_all.count(&reason);
        tracing::warn!(image, reason, ?delay, error = report, "retrying a pull");
        Some(delay)
    });
    shared.engine.pull(request, again)
}

/// Translates the error of a pull for a host.
pub(super) fn failed(image: &str, why: Arc<image::Error>) -> Error {
    match why.interrupted() {
        // The caller's own interruption is no fault of the image, so it is not reported as a failed pull; the error
        // names what it waited for.
        Some(interrupted) => Error::new(Error::from(interrupted).kind(), why),
        None => judged(image, &Arc::clone(&why), why),
    }
}

fn judged(
    image: &str,
    why: &image::Error,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    // The registry's answer, or an error that may pass by itself; otherwise this machine or the image is at fault.
    if why.status().is_some() || why.is_passing() {
        Error::pull(image, why.status(), cause)
    } else if why.is_of_the_host() {
        Error::failed_pull(image, cause)
    } else {
        Error::rejected_pull(image, cause)
    }
}

pub(super) fn own(credentials: Credentials) -> Credential {
    match credentials {
        Credentials::Basic { username, password } => Credential::Basic { username, password },
        Credentials::IdentityToken(token) => Credential::IdentityToken(token),
        Credentials::RegistryToken(token) => Credential::RegistryToken(token),
    }
}
