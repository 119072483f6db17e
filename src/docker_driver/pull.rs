//! Pulls under the host's retry policy, with the task's own credentials before the driver's.
//!
//! The retry policy applies to the one pull of all callers that want the same image at the same time, with the policy
//! that was set when it began, and not to each caller's own loop.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::daemon::{Cause, Daemon, Login};
use super::flight::{Flights, Landed, Wanted};
use super::image_name::ImageName;
use crate::credentials::{Credential, Logins};
use crate::driver::{
    BackOff, BackOffConfig, ContainerTask, Credentials, Error, ErrorKind, Retries, Retry, RetryErrorChecker,
    dice, host, retry_transient,
};
use crate::{Context, Interrupted};

/// How long the retry policy's checker may take. Meanwhile it blocks a thread of the executor.
const JUDGING: Duration = Duration::from_secs(1);

/// Pulls images. Clones share the running pulls and the policy.
#[derive(Debug, Clone)]
pub(super) struct Puller(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    daemon: Daemon,
    logins: Logins,
    flights: Flights,
    retry: Mutex<Retry>,
    retries: Retries,
    tracker: TaskTracker,
    life: Context,
}

/// A caller that no longer waits for a pull. This is no fault of the image.
#[derive(Debug, thiserror::Error)]
#[error("image {image} was not pulled in time")]
struct NotPulled {
    image: ImageName,
    #[source]
    why: Interrupted,
}

impl Puller {
    pub(super) fn new(daemon: &Daemon, logins: Logins, tracker: &TaskTracker, life: &Context) -> Self {
        Self(Arc::new(Shared {
            daemon: daemon.clone(),
            logins,
            flights: Flights::default(),
            retry: Mutex::new(Retry {
                policy: BackOffConfig::default(),
                checker: retry_transient(),
            }),
            retries: Retries::default(),
            tracker: tracker.clone(),
            life: life.clone(),
        }))
    }

    /// Sets how later pulls are retried.
    pub(super) fn set_policy(&self, policy: BackOffConfig, checker: RetryErrorChecker) {
        *self.0.retry.lock().unwrap_or_else(PoisonError::into_inner) = Retry { policy, checker };
    }

    /// How often pulls were retried, by reason.
    pub(super) fn retries(&self) -> BTreeMap<String, u64> {
        self.0.retries.counts()
    }

    /// Pulls the image of a task until it is here, the policy allows no more tries, or the error is not worth a retry.
    ///
    /// # Cancellation
    /// Safe to drop: the pull continues as long as another caller wants it.
    pub(super) async fn pull_for(
        &self,
        ctx: &Context,
        image: &ImageName,
        task: &Arc<dyn ContainerTask>,
    ) -> Result<(), Error> {
        let own = credential(ctx, task).await?;
        self.pull(ctx, image, own).await
    }

    /// The same with these credentials, or the driver's own.
    ///
    /// # Cancellation
    /// As for [`Self::pull_for`].
    pub(super) async fn pull(
        &self,
        ctx: &Context,
        image: &ImageName,
        own: Option<Credential>,
    ) -> Result<(), Error> {
        ctx.check()?;
        let credential = match own {
            Some(own) => Some(own),
            None => self.configured(ctx, image).await?,
        };
        let wanted = Wanted {
            image: image.clone(),
            credential,
        };
        let (this, asked) = (self.clone(), wanted.clone());
        let pulling = self
            .0
            .flights
            .join(&self.0.tracker, &self.0.life, wanted, |ctx| async move {
                this.insist(&ctx, &asked).await
            });
        match pulling.done(ctx).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(cause)) => Err(failed(image, cause)),
            Err(why) => Err(not_pulled(image, why)),
        }
    }

    /// The driver's own credentials for the image's registry. The engine does not say whether it needs any, so a
    /// credential helper that fails leaves the pull without.
    async fn configured(&self, ctx: &Context, image: &ImageName) -> Result<Option<Credential>, Error> {
        match self.0.logins.find(ctx, image.registry()).await {
            Ok(found) => Ok(found),
            Err(why) if why.is_of_a_helper() => {
                ctx.check()?;
                tracing::warn!(%image, error = %crate::chain(&why), "pulling without credentials");
                Ok(None)
            }
            Err(why) => Err(Error::failed_pull(image.as_given(), why)),
        }
    }

    /// The one pull of all callers, with its retries.
    async fn insist(&self, ctx: &Context, wanted: &Wanted) -> Landed {
        let Wanted { image, credential } = wanted;
        let login = credential.clone().map(|credential| Login {
            registry: image.registry().to_owned(),
            credential,
        });
        let Retry { policy, checker } = self
            .0
            .retry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut delays = BackOff::new(policy);
        let repository = image.repository();
        loop {
            let pulling = self.0.daemon.pull(&repository, image.tag(), login.as_ref());
            let cause = match ctx.run(pulling).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(cause)) => Arc::new(cause),
                Err(why) => return Err(Arc::new(why.into())),
            };
            let error = failed(image, Arc::clone(&cause));
            let (report, checker) = (error.report(), Arc::clone(&checker));
            let judging = Context::timeout(JUDGING);
            let asked = host::call(&judging, "the checker of the retry policy", move || {
                checker(&error)
            })
            .await;
            let reason = asked.unwrap_or_else(|broken| {
                tracing::warn!(%image, error = %crate::chain(&broken), "the pull is not retried");
                None
            });
            let Some((reason, delay)) = reason.and_then(|reason| Some((reason, delays.next_delay(dice())?)))
            else {
                return Err(cause);
            };
            self.0.retries.count(&reason);
            tracing::warn!(%image, reason, ?delay, error = report, "retrying a pull");
            if let Err(why) = ctx.run(tokio::time::sleep(delay)).await {
                return Err(Arc::new(why.into()));
            }
        }
    }
}

/// The task's own credentials, if it provides any.
async fn credential(ctx: &Context, task: &Arc<dyn ContainerTask>) -> Result<Option<Credential>, Error> {
    let asked = Arc::clone(task);
    let auther = host::call(ctx, "ContainerTask::auther", move || asked.auther()).await?;
    let Some(auther) = auther else { return Ok(None) };
    let task = Arc::clone(task);
    let ask = |ctx| async move { auther.credentials(&ctx, task.image()).await };
    let given = host::wait(ctx, "Auther::credentials", ask).await??;
    Ok(given.map(|given| match given {
        Credentials::Basic { username, password } => Credential::Basic { username, password },
        Credentials::IdentityToken(token) => Credential::IdentityToken(token),
        Credentials::RegistryToken(token) => Credential::RegistryToken(token),
    }))
}

/// The error of a pull that has failed for all its callers.
fn failed(image: &ImageName, cause: Arc<Cause>) -> Error {
    match &*cause {
        Cause::Interrupted(why) => not_pulled(image, *why),
        Cause::Refused { .. }
        | Cause::Broken(_)
        | Cause::Unreachable(_)
        | Cause::Silent(_)
        | Cause::Garbled(_) => Error::pull(image.as_given(), cause.status(), cause),
        Cause::File(_) => Error::failed_pull(image.as_given(), cause),
    }
}

fn not_pulled(image: &ImageName, why: Interrupted) -> Error {
    let kind = match why {
        Interrupted::Cancelled => ErrorKind::Cancelled,
        Interrupted::DeadlineExceeded => ErrorKind::Timeout,
    };
    let image = image.clone();
    Error::new(kind, NotPulled { image, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_s_error_has_the_registry_s_status_and_the_contract_s_words() {
        let image = ImageName::parse("quay.io/a/b").unwrap();
        let refused = |status| Cause::Refused {
            status,
            message: "no".to_owned(),
        };
        for (cause, code, kind) in [
            (refused(404), 404, ErrorKind::ImageNotFound),
            (refused(403), 403, ErrorKind::ImageDenied),
            (refused(500), 502, ErrorKind::Unavailable),
            (Cause::Broken("no".to_owned()), 502, ErrorKind::Unavailable),
        ] {
            let error = failed(&image, Arc::new(cause));
            assert_eq!((error.code(), error.kind()), (code, kind));
            assert!(error.is_user_error());
            assert_eq!(error.report(), "Failed to pull image 'quay.io/a/b': no");
        }
        let late = failed(&image, Arc::new(Interrupted::DeadlineExceeded.into()));
        assert_eq!(late.kind(), ErrorKind::Timeout);
        assert!(!late.is_user_error(), "{late:?}");
    }
}
