//! Ends the process of a container: a signal that asks for it, a grace period, and SIGKILL.

use std::time::Duration;

use super::container::Container;
use super::custody::owner_is_gone;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::kept::LastRun;
use super::restart::{RestartPolicy, Restarts};
use super::run::Run;
use super::task::SIGKILL;
use super::turn::Turn;
use super::{adopt, find, kept, label, record};
use crate::Context;
use crate::containerd::Record;
use crate::pauses::Pauses;

/// The first and the longest pause before the run of a container that is just being started is looked up again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// How long the end of a container's output may take to reach its readers in this process, before its run is removed.
pub(super) const DELIVERY: Duration = Duration::from_secs(5);

/// How a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop {
    /// The signal that asks the process to end.
    pub(crate) signal: u32,
    /// How long the process may take before it is killed.
    pub(crate) grace: Duration,
}

impl Stop {
    /// Kills the process at once.
    pub(super) const KILL: Self = Self {
        signal: SIGKILL,
        grace: Duration::MAX,
    };
}

impl Container {
    /// Ends the container's process, and returns its exit code if it is known. A container that does not run counts as
    /// stopped. A frozen one is thawed, so that it receives the signal. The run of a kept container is then removed,
    /// unless another process waits for its end and does that.
    ///
    /// # Cancellation
    /// Safe to drop: the stop is given up on its own task, and the signal may have been sent by then.
    pub(crate) async fn stop(&self, ctx: &Context, how: Stop) -> Result<Option<u32>> {
        let this = self.clone();
        let stop = move |ctx: Context| async move { this.stop_here(&ctx, how).await };
        self.deps().tracked(ctx, stop).await
    }

    /// Notes that a user ends the container, so that its restart policy does not start it again. Called before the container is
    /// ended: otherwise it might be started again at once. Nothing happens to one without a policy.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task.
    pub(crate) async fn note_stop(&self) -> Result<()> {
        let this = self.clone();
        let note = async move {
            let ctx = Context::timeout(this.deps().config.close_grace);
            this.note_stop_here(&ctx).await
        };
        self.deps().finished(note).await
    }

    async fn note_stop_here(&self, ctx: &Context) -> Result<()> {
        let (deps, id) = (self.deps(), self.id());
        let record = find::get(deps, ctx, id).await?;
        let has_policy = |record: &Record| {
            kept::is_kept(record) && kept::plan_of(record).is_ok_and(|plan| plan.restart != RestartPolicy::No)
        };
        if !has_policy(&record) || record::attempt_of(&record) != self.attempt() {
            return Ok(());
        }
        let _turn = Turn::take(deps, ctx, id).await?;
        let mut record = find::get(deps, ctx, id).await?;
        let known = Restarts {
            is_stopped: true,
            ..kept::restarts(&record)
        };
        if record::attempt_of(&record) == self.attempt()
            && let Some(field) = kept::set_restarts(&mut record, known)?
        {
            let written = deps.session.containers().update(ctx, &record, &[field]).await;
            written.at(Step::Stop, id)?;
        }
        Ok(())
    }

    pub(super) async fn stop_here(&self, ctx: &Context, how: Stop) -> Result<Option<u32>> {
        let code = match self.run() {
            Some(run) => end(ctx, &run, how).await?,
            None => None,
        };
        if !self.is_kept() {
            return Ok(code);
        }
        if let Some(run) = self.run() {
            // Output that flows through this process is with its readers before the run is removed.
            drop(run.wait(&ctx.with_timeout(DELIVERY)).await);
        }
        let settled = async {
            let record = find::get(self.deps(), ctx, self.id()).await?;
            if record.labels.contains_key(label::DETACHED) || owner_is_gone(&record.labels) {
                self.settle_here().await?;
            }
            Ok::<_, Error>(())
        };
        match settled.await {
            // It has ended, and another process has removed it or started it again.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::OutOfOrder) => {}
            settled => settled?,
        }
        Ok(code.or_else(|| self.current().last.and_then(|last| last.code())))
    }

    /// Waits for the end of the container's process; returns its exit code, or `None` if it is lost or the container
    /// has never run.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn wait(&self, ctx: &Context) -> Result<Option<u32>> {
        let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
        let mut current = self.clone();
        loop {
            if let Some(run) = current.run()
                && let Some(code) = run.wait_exit().await.and_then(|exit| exit.code)
            {
                return Ok(Some(code));
            }
            if !self.is_kept() {
                return Ok(None);
            }
            // Another process may have written the code down before this one could ask containerd for it, or it has
            // only begun to start the container.
            let record = find::get(self.deps(), ctx, self.id()).await?;
            match kept::last_run(&record) {
                Some(LastRun::Started { .. }) if !owner_is_gone(&record.labels) => {}
                last => return Ok(last.and_then(|last| last.code())),
            }
            ctx.run(pauses.wait()).await.at(Step::Wait, self.id())?;
            current = adopt::adopt_record(self.deps(), ctx, &record).await?;
        }
    }
}

/// Ends a run, and returns its exit code if it is known.
async fn end(ctx: &Context, run: &Run, how: Stop) -> Result<Option<u32>> {
    // A frozen container receives a signal only after it has thawed. If the thaw fails, the container has ended, or it
    // is killed below.
    if run.exit_now().is_none() {
        drop(run.thaw(ctx).await);
    }
    for (signal, grace) in [(how.signal, Some(how.grace)), (SIGKILL, None)] {
        match run.signal(ctx, signal).await {
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => {}
        }
        let ended = run.wait_exit();
        let ended = match grace {
            Some(grace) => ctx.run(tokio::time::timeout(grace, ended)).await,
            None => ctx.run(ended).await.map(Ok),
        };
        if let Ok(exit) = ended.at(Step::Stop, run.id())? {
            return Ok(exit.and_then(|exit| exit.code));
        }
    }
    Ok(None)
}
