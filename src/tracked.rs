//! Runs work on its own task, so that it is never stopped half-way when its caller goes away.
//!
//! Both functions run the work on a task of a tracker, which a close waits for. They differ if the caller drops the
//! future: [`run`] cancels the context of the work, which then undoes what it did; [`finish`] lets the work run to its
//! end.

use std::any::Any;

use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::Context;

/// Work that panicked. Its changes may be half done.
#[derive(Debug, thiserror::Error)]
#[error("the operation panicked: {message}")]
pub(crate) struct Panicked {
    message: String,
}

/// Runs `work` on a task of its own, with a child of `ctx` that is cancelled if the caller drops the future.
///
/// # Cancellation
/// Safe to drop: the work is cancelled, and undoes its changes on its task.
pub(crate) async fn run<T, F>(
    tracker: &TaskTracker,
    ctx: &Context,
    work: impl FnOnce(Context) -> F,
) -> Result<T, Panicked>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mine = ctx.child();
    let guard = mine.cancel_on_drop();
    let done = finish(tracker, work(mine)).await;
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
) -> Result<T, Panicked> {
    let done = tracker.spawn(work.in_current_span()).await;
    done.map_err(|error| Panicked {
        message: match error.try_into_panic() {
            Ok(panic) => message(panic.as_ref()),
            Err(error) => error.to_string(),
        },
    })
}

/// The message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
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
}
