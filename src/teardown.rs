//! A list of undo steps, run in reverse order. A failed create and a successful close use the same list.
//!
//! A step is put on the list *before* its effect, because the reply to the effect may be lost. So every step treats
//! "not found" as success and may be run again: a failed step is retried a few times, and then stays on the list for
//! the next run. A claim (see [`Teardown::defer_claim`]) reserves the name by which the later effects are found, so it
//! stays while one of them does.
//!
//! Effects that a `Drop` can undo without waiting (file descriptors, permits, pins) do not belong on the list.
//!
//! ```text
//! create: defer(a) · do a · defer(b) · do b ─┬─ ok    ─► the list moves into the running container ─► close runs it
//!                                            └─ error ─► run now, last first
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::{Metrics, RetryReason};
use crate::{Context, failpoint};

/// How often an undo is tried before it counts as failed. A busy resource is often free a moment later.
const TRIES: u32 = 4;
/// The pause before the second try. Each further pause is four times as long.
const PAUSE: Duration = Duration::from_millis(25);

/// The error of a step that could not undo its effect.
pub(crate) type StepError = Box<dyn std::error::Error + Send + Sync>;
type Undo = Box<dyn FnMut(Context) -> Pin<Box<dyn Future<Output = Result<(), StepError>> + Send>> + Send>;

struct Step {
    name: &'static str,
    undo: Undo,
    /// Whether it stays while the effect of a later step is not undone.
    claim: bool,
}

/// A list of named, asynchronous undo steps, run last first.
#[must_use = "the effects stay unless the teardown is run"]
pub(crate) struct Teardown {
    of: String,
    steps: Vec<Step>,
    metrics: Arc<Metrics>,
}

/// A step that failed while the list ran. The remaining steps ran all the same, except for claims.
#[derive(Debug, thiserror::Error)]
#[error("its {step} could not be removed")]
pub(crate) struct Failed {
    /// What the list belongs to, as messages name it.
    pub(crate) of: String,
    /// The name given to [`Teardown::defer`].
    pub(crate) step: &'static str,
    /// Why it failed.
    #[source]
    pub(crate) source: StepError,
}

impl Teardown {
    /// Creates an empty list. `of` names what it belongs to in messages.
    pub(crate) fn new(of: impl Into<String>, metrics: &Arc<Metrics>) -> Self {
        Self {
            of: of.into(),
            steps: Vec::new(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Puts a step on the list. Call this before the effect that the step undoes.
    pub(crate) fn defer<F, E>(&mut self, name: &'static str, step: impl FnMut(Context) -> F + Send + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<StepError>,
    {
        self.push(name, false, step);
    }

    /// Like [`Self::defer`], for a claim: the effect that reserves the name of all later effects. A claim is not undone
    /// while one of them is left. Otherwise the name could be taken again, and the rest could not be found any more.
    pub(crate) fn defer_claim<F, E>(
        &mut self,
        name: &'static str,
        step: impl FnMut(Context) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<StepError>,
    {
        self.push(name, true, step);
    }

    fn push<F, E>(
        &mut self,
        name: &'static str,
        claim: bool,
        mut step: impl FnMut(Context) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<StepError>,
    {
        let undo: Undo = Box::new(move |ctx| {
            let undoing = step(ctx);
            Box::pin(async move { undoing.await.map_err(Into::into) })
        });
        self.steps.push(Step { name, undo, claim });
        failpoint::reach("before", name);
    }

    /// The names of the steps, in the order in which they will run.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &'static str> {
        self.steps.iter().rev().map(|step| step.name)
    }

    /// Runs every step, last first, and continues after failures. Returns the steps that failed. They stay on the list
    /// for another run, and so do the claims that were made before them.
    ///
    /// # Cancellation
    /// Not safe to drop half-way: the effect of the step in flight is then unknown. Must run on a tracked task. `ctx`
    /// bounds the whole run; each try of a step gets half of the time that is left.
    pub(crate) async fn run(&mut self, ctx: &Context) -> Vec<Failed> {
        self.run_steps(ctx, &[]).await
    }

    /// Like [`Self::run`], but skips the steps of these names, which stay for a later run.
    ///
    /// # Cancellation
    /// As for [`Self::run`].
    pub(crate) async fn run_without(&mut self, ctx: &Context, names: &[&str]) -> Vec<Failed> {
        self.run_steps(ctx, names).await
    }

    async fn run_steps(&mut self, ctx: &Context, without: &[&str]) -> Vec<Failed> {
        let mut failed = Vec::new();
        for at in (0..self.steps.len()).rev() {
            let Some(step) = self.steps.get_mut(at) else {
                continue;
            };
            if without.contains(&step.name) || (step.claim && !failed.is_empty()) {
                continue;
            }
            match insist(ctx, &self.metrics, &mut step.undo).await {
                Ok(()) => {
                    failpoint::reach("undone", step.name);
                    drop(self.steps.remove(at));
                }
                Err(source) => failed.push(Failed {
                    of: self.of.clone(),
                    step: step.name,
                    source,
                }),
            }
        }
        failed
    }

    /// Whether there is nothing to undo.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Removes all steps from the list without running them, except those of these names.
    pub(crate) fn keep_only(&mut self, names: &[&str]) {
        self.steps.retain(|step| names.contains(&step.name));
    }

    /// Empties the list without running it, because its effects have another owner now (the container was left, for
    /// example).
    pub(crate) fn forget(&mut self) {
        self.steps.clear();
    }
}

impl Drop for Teardown {
    fn drop(&mut self) {
        if self.steps.is_empty() || std::thread::panicking() {
            return;
        }
        let steps: Vec<_> = self.steps().collect();
        tracing::error!(of = %self.of, ?steps, "undo steps were dropped without being run; what they would have removed stays");
    }
}

impl fmt::Debug for Teardown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teardown")
            .field("of", &self.of)
            .field("steps", &self.steps().collect::<Vec<_>>())
            .finish()
    }
}

/// Tries an undo a few times until it succeeds. An undo must be safe to repeat.
///
/// # Errors
/// The error of the last try.
///
/// # Cancellation
/// As for `undo`.
pub(crate) async fn insist<T, E, F>(
    ctx: &Context,
    metrics: &Metrics,
    mut undo: impl FnMut(Context) -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        let done = undo(ctx.halved()).await;
        if done.is_ok() || ctx.run(tokio::time::sleep(pause)).await.is_err() {
            return done;
        }
        metrics.retry(RetryReason::Undo);
        pause *= 4;
    }
    undo(ctx.halved()).await
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A list whose steps record that they ran. The step named `broken` fails the first `times` times.
    fn list(broken: &'static str, times: usize) -> (Teardown, Arc<Mutex<Vec<&'static str>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut undo = Teardown::new("c1", &Arc::new(Metrics::new()));
        for name in ["record", "snapshot", "task"] {
            let noted = Arc::clone(&seen);
            let step = move |_| {
                let mut noted = noted.lock().unwrap();
                noted.push(name);
                let tried = noted.iter().filter(|ran| **ran == name).count();
                std::future::ready(if name == broken && tried <= times {
                    Err("busy")
                } else {
                    Ok(())
                })
            };
            if name == "record" {
                undo.defer_claim(name, step);
            } else {
                undo.defer(name, step);
            }
        }
        (undo, seen)
    }

    #[tokio::test]
    async fn steps_run_last_first() {
        let (mut undo, seen) = list("nothing", 0);
        assert_eq!(undo.steps().collect::<Vec<_>>(), ["task", "snapshot", "record"]);
        assert!(undo.run(&Context::new()).await.is_empty());
        assert_eq!(*seen.lock().unwrap(), ["task", "snapshot", "record"]);
        assert_eq!(undo.steps().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_busy_for_a_moment_is_tried_again_and_the_tries_are_counted() {
        let (mut undo, seen) = list("snapshot", 3);
        assert!(undo.run(&Context::new()).await.is_empty());
        assert_eq!(seen.lock().unwrap().len(), 3 + 3);
        assert_eq!(undo.metrics.value("fnctr_retries_total{reason=\"undo\"}"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_run_past_and_keeps_the_claim_until_a_later_run_succeeds() {
        let (mut undo, seen) = list("task", 4);
        let failed = undo.run(&Context::new()).await;
        let failed: Vec<_> = failed.iter().map(ToString::to_string).collect();
        assert_eq!(failed, ["its task could not be removed"]);
        assert_eq!(undo.steps().collect::<Vec<_>>(), ["task", "record"]);
        assert_eq!(seen.lock().unwrap().last(), Some(&"snapshot"));
        assert!(undo.run(&Context::new()).await.is_empty());
        assert_eq!(seen.lock().unwrap().last(), Some(&"record"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_never_ends_leaves_time_to_the_others() {
        let mut undo = Teardown::new("c1", &Arc::new(Metrics::new()));
        let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
        undo.defer("first", move |ctx| {
            let sent = tx.send(ctx.remaining());
            async move { sent }
        });
        undo.defer("second", |ctx| async move { Err::<(), _>(ctx.done().await) });
        let failed = undo.run(&Context::timeout(Duration::from_secs(16))).await;
        assert_eq!(failed.len(), 1);
        let left = rx.recv().await.unwrap().unwrap();
        assert!(left > Duration::ZERO, "{left:?}");
        undo.forget();
    }

    #[tokio::test]
    async fn of_a_list_that_is_given_up_in_part_the_rest_runs() {
        let (mut undo, seen) = list("nothing", 0);
        undo.keep_only(&["snapshot"]);
        assert!(undo.run(&Context::new()).await.is_empty());
        assert_eq!(*seen.lock().unwrap(), ["snapshot"]);
    }

    #[tokio::test]
    async fn a_step_stays_for_what_another_list_could_not_undo() {
        let (mut undo, seen) = list("nothing", 0);
        assert!(undo.run_without(&Context::new(), &["record"]).await.is_empty());
        assert_eq!(*seen.lock().unwrap(), ["task", "snapshot"]);
        assert_eq!(undo.steps().collect::<Vec<_>>(), ["record"]);
        assert!(undo.run(&Context::new()).await.is_empty());
        assert!(undo.is_empty());
    }

    #[tokio::test]
    async fn a_forgotten_list_runs_nothing() {
        let (mut undo, seen) = list("nothing", 0);
        undo.forget();
        assert!(undo.is_empty());
        assert!(seen.lock().unwrap().is_empty());
    }
}
