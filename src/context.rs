//! Cancellation and deadline of one request, as one explicit argument.
//!
//! The Go contract's `context.Context` has three roles. Here, the values that it carries (trace, logger) are in the
//! current [`tracing`] span, the containerd namespace and lease are in a `containerd::Session`, and cancellation and
//! deadline are in this type. Everything that waits takes it as an argument, and it is cheap to clone.
//!
//! A mutating call is never raced against a context: check the context, then await the reply. Only waits, reads and
//! content-addressed fetches go through [`Context::run`].

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Why a wait ended early. The contract reports the two reasons separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// [`Context::cancel`] was called, or a guard of [`Context::cancel_on_drop`] was dropped.
    #[error("cancelled")]
    Cancelled,
    /// The deadline passed.
    #[error("deadline exceeded")]
    DeadlineExceeded,
}

/// Cancellation and deadline. A child is interrupted with its parent, never the other way round.
#[derive(Debug, Clone)]
pub struct Context {
    cancel: CancellationToken,
    /// The cancellation of a second context that is not an ancestor; see [`Context::linked`].
    also: Option<CancellationToken>,
    deadline: Option<Instant>,
}

impl Context {
    /// A context that is not cancelled and has no deadline.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cancel: CancellationToken::new(),
            also: None,
            deadline: None,
        }
    }

    /// A context whose deadline is `limit` from now.
    #[must_use]
    pub fn timeout(limit: Duration) -> Self {
        Self::new().with_timeout(limit)
    }

    /// A child that can be cancelled without cancelling `self`.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            cancel: self.cancel.child_token(),
            also: self.also.clone(),
            deadline: self.deadline,
        }
    }

    /// A child with a deadline `limit` from now; the earlier of the two deadlines wins.
    #[must_use]
    pub fn with_timeout(&self, limit: Duration) -> Self {
        let child = self.child();
        // A limit too large for the clock is no limit.
        match Instant::now().checked_add(limit) {
            Some(at) => child.with_deadline(at),
            None => child,
        }
    }

    /// A child with the deadline `at`; the earlier of the two deadlines wins.
    #[must_use]
    pub fn with_deadline(&self, at: Instant) -> Self {
        let mut child = self.child();
        child.deadline = Some(self.deadline.map_or(at, |mine| mine.min(at)));
        child
    }

    /// A child with half of the time that is left, so that a step that never ends leaves time for the steps after it.
    #[must_use]
    pub(crate) fn halved(&self) -> Self {
        match self.remaining() {
            Some(left) => self.with_timeout(left / 2),
            None => self.child(),
        }
    }

    /// A child that is also cancelled with `other`; the deadline of `other` is ignored. A context can be linked once.
    #[must_use]
    pub(crate) fn linked(&self, other: &Self) -> Self {
        Self {
            also: Some(other.cancel.clone()),
            ..self.child()
        }
    }

    /// A context for cleaning up: it ignores the cancellation and the deadline of `self`, and ends after `grace`.
    #[must_use]
    pub fn detached(&self, grace: Duration) -> Self {
        Self::timeout(grace)
    }

    /// Interrupts this context and its children.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// A guard that cancels this context when it is dropped, unless it is disarmed.
    #[must_use]
    pub fn cancel_on_drop(&self) -> DropGuard {
        self.cancel.clone().drop_guard()
    }

    /// The deadline, if there is one.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The time until the deadline; zero once it has passed, `None` if there is no deadline.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Why this context is interrupted, if it is. A passed deadline takes precedence over a cancellation, because a
    /// caller that sets a deadline and then cancels at that moment means the deadline.
    #[must_use]
    pub fn interrupted(&self) -> Option<Interrupted> {
        if self.deadline.is_some_and(|at| at <= Instant::now()) {
            Some(Interrupted::DeadlineExceeded)
        } else if self.is_cancelled() {
            Some(Interrupted::Cancelled)
        } else {
            None
        }
    }

    /// Fails if this context is interrupted. Call this between two steps.
    ///
    /// # Errors
    /// The reason for the interruption.
    pub fn check(&self) -> Result<(), Interrupted> {
        self.interrupted().map_or(Ok(()), Err)
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled() || self.also.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// Waits for a cancellation and ignores the deadline.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn cancelled(&self) {
        match &self.also {
            None => self.cancel.cancelled().await,
            Some(also) => tokio::select! {
                () = self.cancel.cancelled() => {}
                () = also.cancelled() => {}
            },
        }
    }

    /// Waits until this context is interrupted, and returns the reason.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn done(&self) -> Interrupted {
        match self.deadline {
            None => {
                self.cancelled().await;
                Interrupted::Cancelled
            }
            Some(at) => tokio::select! {
                biased;
                () = tokio::time::sleep_until(at) => Interrupted::DeadlineExceeded,
                () = self.cancelled() => self.interrupted().unwrap_or(Interrupted::Cancelled),
            },
        }
    }

    /// Awaits `work`, a wait or an idempotent read, until it completes or this context is interrupted. In the latter
    /// case `work` is dropped half-way. If both happen at once, the output of `work` is returned.
    ///
    /// # Errors
    /// The reason for the interruption.
    ///
    /// # Cancellation
    /// Safe to drop if `work` is.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            out = work => Ok(out),
            why = self.done() => Err(why),
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_and_a_cancellation_are_distinguished() {
        let ctx = Context::timeout(Duration::from_secs(1));
        assert_eq!(
            ctx.run(std::future::pending::<()>()).await,
            Err(Interrupted::DeadlineExceeded)
        );
        let ctx = Context::new();
        ctx.cancel();
        assert_eq!(
            ctx.run(std::future::pending::<()>()).await,
            Err(Interrupted::Cancelled)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_deadline_wins() {
        let parent = Context::timeout(Duration::from_secs(1));
        assert_eq!(
            parent.with_timeout(Duration::from_secs(9)).deadline(),
            parent.deadline()
        );
        assert!(parent.with_timeout(Duration::from_millis(1)).deadline() < parent.deadline());
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_the_time_leaves_the_other_half() {
        let ctx = Context::timeout(Duration::from_secs(8));
        let half = ctx.halved();
        assert_eq!(half.done().await, Interrupted::DeadlineExceeded);
        assert_eq!(ctx.remaining(), Some(Duration::from_secs(4)));
        assert_eq!(Context::new().halved().deadline(), None);
    }

    #[tokio::test]
    async fn a_child_does_not_cancel_its_parent_but_is_cancelled_with_it() {
        let parent = Context::new();
        let child = parent.child();
        child.cancel();
        assert_eq!(parent.check(), Ok(()));
        let child = parent.child();
        parent.cancel();
        assert_eq!(child.check(), Err(Interrupted::Cancelled));
        assert_eq!(parent.detached(Duration::from_secs(1)).check(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_linked_context_is_cancelled_with_either_and_late_with_its_own() {
        let (parent, other) = (Context::new(), Context::timeout(Duration::from_secs(1)));
        let linked = parent.linked(&other);
        assert_eq!(linked.deadline(), None);
        other.cancel();
        assert_eq!(linked.child().done().await, Interrupted::Cancelled);
        assert_eq!(parent.check(), Ok(()));
        let linked = parent.linked(&Context::new());
        parent.cancel();
        assert_eq!(linked.check(), Err(Interrupted::Cancelled));
    }

    #[tokio::test]
    async fn dropping_the_guard_cancels() {
        let ctx = Context::new();
        drop(ctx.cancel_on_drop());
        assert_eq!(ctx.check(), Err(Interrupted::Cancelled));
        let ctx = Context::new();
        ctx.cancel_on_drop().disarm();
        assert_eq!(ctx.check(), Ok(()));
    }

    #[tokio::test]
    async fn what_is_ready_wins_over_an_interruption() {
        let ctx = Context::new();
        ctx.cancel();
        assert_eq!(ctx.run(std::future::ready(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn a_limit_too_large_for_the_clock_is_no_limit() {
        assert_eq!(Context::new().with_timeout(Duration::MAX).deadline(), None);
    }
}
