//! Hooks that a host runs around each call of a function and at the end of its task, and how to add to them.
//!
//! A wrapper receives the earlier hook and returns its replacement. So the hook that was added last runs first, and
//! decides whether the earlier ones run at all.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use super::{BoxFuture, Error, lock};
use crate::Context;

/// Options of one call, by name.
pub type CallExtensions = BTreeMap<String, String>;
/// A hook that runs just before a call.
pub type BeforeCall =
    Arc<dyn Fn(Context, Call, CallExtensions) -> BoxFuture<Result<(), Error>> + Send + Sync>;
/// A hook that runs just after a call whose [`BeforeCall`] succeeded.
pub type AfterCall = BeforeCall;
/// A hook that cleans up after a task, once.
pub type Closer = Box<dyn FnOnce() + Send>;

/// One invocation of a function. The driver only carries it: `payload` is data that the host keeps about the call.
#[derive(Clone, Default)]
pub struct Call {
    /// The host's name for the call.
    pub id: String,
    /// The host's own record of the call.
    pub payload: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The three hooks of a task, each a chain that can be wrapped. The default does nothing.
pub struct Hooks {
    before: Mutex<BeforeCall>,
    after: Mutex<AfterCall>,
    close: Mutex<Closer>,
}

impl Hooks {
    /// Runs the hook for the time just before a call, for no longer than `ctx` lasts.
    ///
    /// # Errors
    /// The error of the hook, or the reason why `ctx` ended first; then the call must not happen.
    pub async fn before_call(
        &self,
        ctx: &Context,
        call: &Call,
        extensions: &CallExtensions,
    ) -> Result<(), Error> {
        let hook = Arc::clone(&lock(&self.before));
        ctx.run(hook(ctx.clone(), call.clone(), extensions.clone()))
            .await?
    }

    /// Wraps the hook that runs before each later call.
    pub fn wrap_before_call(&self, wrap: impl FnOnce(BeforeCall) -> BeforeCall) {
        let before = Arc::clone(&lock(&self.before));
        let wrapped = wrap(before);
        *lock(&self.before) = wrapped;
    }

    /// Runs the hook for the time just after a call, for no longer than `ctx` lasts.
    ///
    /// # Errors
    /// The error of the hook, or the reason why `ctx` ended first.
    pub async fn after_call(
        &self,
        ctx: &Context,
        call: &Call,
        extensions: &CallExtensions,
    ) -> Result<(), Error> {
        let hook = Arc::clone(&lock(&self.after));
        ctx.run(hook(ctx.clone(), call.clone(), extensions.clone()))
            .await?
    }

    /// Wraps the hook that runs after each later call.
    pub fn wrap_after_call(&self, wrap: impl FnOnce(AfterCall) -> AfterCall) {
        let after = Arc::clone(&lock(&self.after));
        let wrapped = wrap(after);
        *lock(&self.after) = wrapped;
    }

    /// Cleans up. Each hook runs at most once, however often this is called.
    pub fn close(&self) {
        let close = self.take_close();
        close();
    }

    /// Wraps the hook that cleans up. If a wrapper panics, the earlier hooks are kept.
    pub fn wrap_close(&self, wrap: impl FnOnce(Closer) -> Closer) {
        let earlier = Arc::new(Mutex::new(self.take_close()));
        let run = || -> Closer {
            let earlier = Arc::clone(&earlier);
            Box::new(move || take(&earlier)())
        };
        *lock(&self.close) = run();
        let wrapped = wrap(run());
        *lock(&self.close) = wrapped;
    }

    fn take_close(&self) -> Closer {
        take(&self.close)
    }
}

fn take(close: &Mutex<Closer>) -> Closer {
    std::mem::replace(&mut lock(close), Box::new(|| {}))
}

impl Default for Hooks {
    fn default() -> Self {
        let nothing: BeforeCall = Arc::new(|_, _, _| Box::pin(std::future::ready(Ok(()))));
        Self {
            before: Mutex::new(Arc::clone(&nothing)),
            after: Mutex::new(nothing),
            close: Mutex::new(Box::new(|| {})),
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::ErrorKind;

    type Seen = Arc<Mutex<Vec<&'static str>>>;

    fn noting(seen: &Seen, what: &'static str, inner: BeforeCall) -> BeforeCall {
        let seen = Arc::clone(seen);
        Arc::new(move |ctx, call, extensions| {
            lock(&seen).push(what);
            inner(ctx, call, extensions)
        })
    }

    #[tokio::test]
    async fn the_last_wrapper_runs_first_and_reaches_every_later_call() {
        let (hooks, seen) = (Hooks::default(), Seen::default());
        hooks.wrap_before_call(|inner| noting(&seen, "first added", inner));
        hooks.wrap_before_call(|inner| noting(&seen, "last added", inner));
        for _ in 0..2 {
            hooks
                .before_call(&Context::new(), &Call::default(), &CallExtensions::new())
                .await
                .unwrap();
        }
        hooks
            .after_call(&Context::new(), &Call::default(), &CallExtensions::new())
            .await
            .unwrap();
        assert_eq!(
            *lock(&seen),
            ["last added", "first added", "last added", "first added"]
        );
    }

    #[tokio::test]
    async fn a_wrapper_can_refuse_a_call() {
        let (hooks, seen) = (Hooks::default(), Seen::default());
        hooks.wrap_before_call(|inner| noting(&seen, "inner", inner));
        hooks.wrap_before_call(|_| {
            Arc::new(|_, call, _| {
                let refused = Error::new(ErrorKind::Busy, format!("no room for {}", call.id));
                Box::pin(std::future::ready(Err(refused)))
            })
        });
        let call = Call {
            id: "c1".to_owned(),
            payload: None,
        };
        let error = hooks
            .before_call(&Context::new(), &call, &CallExtensions::new())
            .await;
        assert_eq!(error.unwrap_err().to_string(), "no room for c1");
        assert!(lock(&seen).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_never_ends_costs_the_call_its_deadline() {
        let hooks = Hooks::default();
        hooks.wrap_before_call(|_| Arc::new(|_, _, _| Box::pin(std::future::pending())));
        hooks.wrap_after_call(|_| Arc::new(|_, _, _| Box::pin(std::future::pending())));
        let (call, none) = (Call::default(), CallExtensions::new());
        let ctx = Context::timeout(std::time::Duration::from_secs(3));
        let late = hooks.before_call(&ctx, &call, &none).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
        let late = hooks.after_call(&ctx, &call, &none).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    }

    #[test]
    fn closing_twice_cleans_up_once() {
        let (hooks, seen) = (Hooks::default(), Seen::default());
        for what in ["inner", "outer"] {
            let seen = Arc::clone(&seen);
            hooks.wrap_close(|inner| {
                Box::new(move || {
                    lock(&seen).push(what);
                    inner();
                })
            });
        }
        let broken = std::panic::AssertUnwindSafe(|| hooks.wrap_close(|_| panic!("no wrapper")));
        assert!(std::panic::catch_unwind(broken).is_err());
        hooks.close();
        hooks.close();
        assert_eq!(*lock(&seen), ["outer", "inner"]);
    }
}
