//! The boundary to the host's own code: the methods of its task, its credentials, its retry policy.
//!
//! That code may panic, block its thread, or never end. It is called so that only the call that needs it is affected:
//! on a thread that may block, raced with a context, and with a panic turned into an error that names the code. What
//! was created by then is undone as after any other error. Code that never returns keeps its thread, which cannot be
//! taken from it, and an orderly shutdown of the tokio runtime waits for such threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tracing::Span;

use crate::driver::{Error, ErrorKind};
use crate::{Context, Interrupted, tracked};

/// A failure of the host's own code.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum HostError {
    /// The code panicked.
    #[error("{code} of the host panicked: {message}")]
    Panicked {
        /// The name of the code, as the host knows it.
        code: &'static str,
        /// The message of the panic.
        message: String,
    },
    /// The code had not returned when its caller's time was over.
    #[error("{code} of the host did not return in time")]
    Late {
        /// The name of the code, as the host knows it.
        code: &'static str,
        /// Why the caller no longer waits.
        #[source]
        why: Interrupted,
    },
    /// The tokio runtime is shutting down and did not run the code.
    #[error("{code} of the host was not run: the runtime is shutting down")]
    NotRun {
        /// The name of the code, as the host knows it.
        code: &'static str,
    },
}

impl HostError {
    fn late(code: &'static str) -> impl Fn(Interrupted) -> Self {
        move |why| Self::Late { code, why }
    }

    fn panicked(code: &'static str, panic: &(dyn std::any::Any + Send)) -> Self {
        let message = tracked::message(panic);
        Self::Panicked { code, message }
    }

    /// Why the caller no longer waits, if that is the failure.
    pub(crate) fn interrupted(&self) -> Option<Interrupted> {
        match self {
            Self::Late { why, .. } => Some(*why),
            Self::Panicked { .. } | Self::NotRun { .. } => None,
        }
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        let kind = match error.interrupted() {
            Some(Interrupted::Cancelled) => ErrorKind::Cancelled,
            Some(Interrupted::DeadlineExceeded) => ErrorKind::Timeout,
            None => ErrorKind::Internal,
        };
        Self::new(kind, error)
    }
}

/// Calls `work` on the current thread; for code that cannot wait.
pub(crate) fn caught<T>(code: &'static str, work: impl FnOnce() -> T) -> Result<T, HostError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| HostError::panicked(code, panic.as_ref()))
}

/// Calls `work` on a thread that may block, for no longer than `ctx` lasts.
///
/// # Cancellation
/// Safe to drop: the value that `work` returns is then dropped on that thread.
pub(crate) async fn call<T: Send + 'static>(
    ctx: &Context,
    code: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HostError> {
    ctx.check().map_err(HostError::late(code))?;
    let span = Span::current();
    let running = spawn_blocking(move || span.in_scope(work));
    let ended = ctx.run(running).await.map_err(HostError::late(code))?;
    ended.map_err(|error| match error.try_into_panic() {
        Ok(panic) => HostError::panicked(code, panic.as_ref()),
        Err(_) => HostError::NotRun { code },
    })
}

/// Like [`call`], for asynchronous code. The code gets a context that ends when the caller no longer waits, and is
/// dropped then.
///
/// # Cancellation
/// Safe to drop.
pub(crate) async fn wait<F>(
    ctx: &Context,
    code: &'static str,
    work: impl FnOnce(Context) -> F + Send + 'static,
) -> Result<F::Output, HostError>
where
    F: Future,
    F::Output: Send + 'static,
{
    let mine = ctx.child();
    let _end = mine.cancel_on_drop();
    let runtime = Handle::current();
    let here = mine.clone();
    let poll = move || runtime.block_on(async { here.run(work(here.clone())).await });
    // If both are interrupted at the same moment, both return the same reason.
    call(&mine, code, poll).await?.map_err(HostError::late(code))
}

/// Calls `work` for a caller that is not asynchronous, for no longer than `limit`.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    code: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HostError> {
    let (tx, rx) = std::sync::mpsc::channel();
    // The handle is not needed: the channel reports how the call ended.
    drop(spawn_blocking(move || drop(tx.send(caught(code, work)))));
    match rx.recv_timeout(limit) {
        Ok(done) => done,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Err(HostError::Late {
            code,
            why: Interrupted::DeadlineExceeded,
        }),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(HostError::NotRun { code }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const CODE: &str = "ContainerTask::input";

    #[tokio::test]
    async fn code_that_panics_is_an_error_that_names_it() {
        let panicked = call(&Context::new(), CODE, || -> () { panic!("boom") })
            .await
            .unwrap_err();
        assert_eq!(
            panicked.to_string(),
            "ContainerTask::input of the host panicked: boom"
        );
        assert_eq!(Error::from(panicked).kind(), ErrorKind::Internal);
        let panicked = wait(&Context::new(), CODE, |_| async { panic!("later") }).await;
        let panicked: Result<(), _> = panicked;
        assert!(panicked.unwrap_err().to_string().ends_with("panicked: later"));
        let panicked = within(Duration::from_secs(60), CODE, || -> () { panic!("boom") });
        assert!(
            matches!(panicked, Err(HostError::Panicked { .. })),
            "{panicked:?}"
        );
    }

    #[tokio::test]
    async fn code_that_blocks_costs_no_more_than_the_context() {
        let (release, held) = mpsc::channel::<()>();
        let ctx = Context::timeout(Duration::from_millis(20));
        // On the only thread of this test's runtime, the code would block everything.
        let late = call(&ctx, CODE, move || held.recv().is_err()).await.unwrap_err();
        assert_eq!(late.interrupted(), Some(Interrupted::DeadlineExceeded));
        assert_eq!(Error::from(late).kind(), ErrorKind::Timeout);
        drop(release);

        let (release, held) = mpsc::channel::<()>();
        let late = within(Duration::from_millis(20), CODE, move || held.recv().is_err());
        assert!(matches!(late, Err(HostError::Late { .. })), "{late:?}");
        drop(release);
    }

    #[tokio::test]
    async fn code_that_waits_for_ever_is_dropped_with_the_context() {
        let ctx = Context::new();
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        let (began, begun) = tokio::sync::oneshot::channel();
        let work = |_| async move {
            let _alive = alive;
            began.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        let cancel = async {
            begun.await.unwrap();
            ctx.cancel();
        };
        let (late, ()) = tokio::join!(wait(&ctx, CODE, work), cancel);
        assert_eq!(late.unwrap_err().interrupted(), Some(Interrupted::Cancelled));
        assert!(ended.await.is_err(), "it was dropped");
    }

    #[tokio::test]
    async fn what_code_returns_arrives() {
        assert_eq!(call(&Context::new(), CODE, || 7).await.unwrap(), 7);
        let waited = wait(&Context::new(), CODE, |ctx| async move { ctx.check() }).await;
        assert_eq!(waited.unwrap(), Ok(()));
        assert_eq!(within(Duration::from_secs(60), CODE, || 7).unwrap(), 7);
    }
}
