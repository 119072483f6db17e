//! Runs work on a separate task, so that dropping the caller's future does not stop the work half-way.
//!
//! Both functions run the work on a task of a [`TaskTracker`]; closing the driver waits for all tasks of its tracker.
//! They differ in what happens if the caller drops the future: [`run`] cancels the context of the work, which then
//! undoes its changes; [`finish`] lets the work run to its end.

use std::any::Any;

use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::Context;

/// Why work has no result. Its changes may be half done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// The work panicked.
    #[error("the operation panicked: {message}")]
    Panicked {
        /// The message of the panic.
        message: String,
    },
    /// The task ended without a panic and without a result, because the tokio runtime is shutting down.
    #[error("the operation's task failed: {message}")]
    Failed {
        /// The message of tokio's error.
        message: String,
    },
}

/// Runs `work` on a task of its own, with a child of `ctx` that is cancelled if the caller drops the future.
///
/// # Cancellation
/// Safe to drop: the work is cancelled, and undoes its changes on its task.
pub(crate) async fn run<T, F>(
    tracker: &TaskTracker,
    ctx: &Context,
    work: impl FnOnce(Context) -> F,
) -> Result<T, TaskError>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let child = ctx.child();
    let guard = child.cancel_on_drop();
    let done = finish(tracker, work(child)).await;
    guard.disarm();
    done
}

/// Runs `work` on a task of its own, to its end.
///
/// # Cancellation
/// Safe to drop: the work continues.
pub(crate) async fn finish<T: Send + 'static>(
    tracker: &TaskTracker,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, TaskError> {
    let done = tracker.spawn(work.in_current_span()).await;
    done.map_err(|error| match error.try_into_panic() {
        Ok(panic) => TaskError::Panicked {
            message: message(panic.as_ref()),
        },
        Err(error) => TaskError::Failed {
            message: error.to_string(),
        },
    })
}

/// Returns the message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::Interrupted;

    #[tokio::test]
    async fn a_caller_that_goes_away_cancels_what_it_runs_and_the_tracker_waits_for_it() {
        let (tracker, ctx) = (TaskTracker::new(), Context::new());
        let (begun, has_begun) = oneshot::channel();
        let (unwound, how) = oneshot::channel();
        let ran = run(&tracker, &ctx, |ctx| async move {
            begun.send(()).unwrap();
            unwound.send(ctx.done().await).unwrap();
        });
        tokio::select! {
            biased;
            ran = ran => panic!("it ended: {ran:?}"),
            begun = has_begun => begun.unwrap(),
        }
        tracker.close();
        tracker.wait().await;
        assert_eq!(how.await.unwrap(), Interrupted::Cancelled);
        assert_eq!(ctx.check(), Ok(()), "the caller's own context is not touched");
    }

    #[tokio::test]
    async fn what_is_to_be_finished_goes_on_without_its_caller() {
        let tracker = TaskTracker::new();
        let (begun, has_begun) = oneshot::channel();
        let (go, going) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let ran = finish(&tracker, async move {
            begun.send(()).unwrap();
            going.await.unwrap();
            done.send(7).unwrap();
        });
        tokio::select! {
            biased;
            ran = ran => panic!("it ended: {ran:?}"),
            begun = has_begun => begun.unwrap(),
        }
        go.send(()).unwrap();
        assert_eq!(is_done.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_message() {
        let tracker = TaskTracker::new();
        for text in ["at once", "a second time"] {
            let ran = run(&tracker, &Context::new(), |_| async move { panic!("{text}") }).await;
            let error: Result<(), _> = ran;
            let expected = format!("the operation panicked: {text}");
            assert_eq!(error.unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_task_that_the_runtime_drops_is_not_called_a_panic() {
        use std::task::{Context, Poll, Waker};

        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let tracker = TaskTracker::new();
        let mut finished = Box::pin(finish(&tracker, std::future::pending::<()>()));
        let mut cx = Context::from_waker(Waker::noop());
        let entered = runtime.enter();
        assert!(finished.as_mut().poll(&mut cx).is_pending());
        drop(entered);
        drop(runtime);
        let Poll::Ready(Err(error)) = finished.as_mut().poll(&mut cx) else {
            panic!("the task is still there")
        };
        assert!(matches!(error, TaskError::Failed { .. }), "{error}");
    }
}
