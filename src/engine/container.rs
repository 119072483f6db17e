//! A container that exists: its record, its writable layer, and its run.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{Mutex, watch};

use super::error::{Error, Kind, Result, Step};
use super::kept::{LastRun, RunEnd};
use super::record::{Claim, Origin};
use super::run::Run;
use super::{Deps, undo};
use crate::ContainerId;
use crate::cgroup::State;
use crate::teardown::Teardown;

/// A handle to a container; clones refer to the same container. Dropping a handle leaves the container as it is.
#[derive(Debug, Clone)]
pub(crate) struct Container(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    deps: Arc<Deps>,
    id: ContainerId,
    /// Which attempt made it: other containers may have had its name before, or have it now.
    origin: Origin,
    claim: Claim,
    current: watch::Sender<Current>,
    /// The undo list of the record and the layer. Only tracked tasks hold the lock. A task that needs the lock of the
    /// run's stage too takes that one second.
    undo: Mutex<Teardown>,
}

/// The run that the container has, and the last run on its record.
#[derive(Debug, Clone, Default)]
pub(super) struct Current {
    /// `None` if it has never run, or all of the last run is removed.
    pub(super) run: Option<Run>,
    /// `None` for a container that is not kept after its end.
    pub(super) last: Option<LastRun>,
}

impl Current {
    /// A kept container without a run.
    pub(super) fn idle(last: LastRun) -> Self {
        Self {
            run: None,
            last: Some(last),
        }
    }

    /// When the last run of a kept container was started, if it is over.
    pub(super) fn over(&self) -> Option<SystemTime> {
        match self.last.as_ref()? {
            LastRun::Never => None,
            LastRun::Ended(end) => end.started_at,
            // Its end is not on the record yet.
            LastRun::Started { at } => self.run.as_ref()?.exit_now().map(|_| *at),
        }
    }

    /// The exit code of the last run, whether its end is on the record or not, unless that run was over already when
    /// `over` was asked for. `None` if there is no such run, or its code is not known.
    pub(super) fn code_since(&self, over: Option<SystemTime>) -> Option<u32> {
        match &self.last {
            Some(LastRun::Ended(end)) if end.started_at != over => end.code,
            Some(LastRun::Started { at }) if Some(*at) != over => self.run.as_ref()?.exit_now()?.code,
            _ => None,
        }
    }

    /// The end of the last run, unless that run was over already when `over` was asked for.
    pub(super) fn end_since(&self, over: Option<SystemTime>) -> Option<&RunEnd> {
        match &self.last {
            Some(LastRun::Ended(end)) if end.started_at != over => Some(end),
            _ => None,
        }
    }
}

impl Container {
    /// Takes over a container and its undo list.
    pub(super) fn new(
        deps: &Arc<Deps>,
        id: &ContainerId,
        current: Current,
        origin: Origin,
        claim: Claim,
        undo: Teardown,
    ) -> Self {
        debug_assert!(undo::is_whole_container(&undo), "{undo:?}");
        Self(Arc::new(Inner {
            deps: Arc::clone(deps),
            id: id.clone(),
            origin,
            claim,
            current: watch::Sender::new(current),
            undo: Mutex::new(undo),
        }))
    }

    /// The container's name.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.0.id
    }

    /// The container's run: the current one, or the last one until all of it is removed.
    pub(crate) fn run(&self) -> Option<Run> {
        self.current().run
    }

    /// The container's run, for a step that needs one.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if the container has none.
    pub(crate) fn run_for(&self, step: Step) -> Result<Run> {
        let none = || Error::new(step, self.id(), Kind::NotFound, "it is not running");
        self.run().ok_or_else(none)
    }

    /// Whether the container is kept after its end.
    pub(crate) fn is_kept(&self) -> bool {
        self.current().last.is_some()
    }

    /// Whether the container is kept and has never run.
    pub(crate) fn has_never_run(&self) -> bool {
        self.current().last == Some(LastRun::Never)
    }

    /// Whether its process was started and has not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.run()
            .is_some_and(|run| !run.is_ready() && run.exit_now().is_none())
    }

    /// Whether its process is frozen, as the kernel reports.
    pub(crate) fn is_frozen(&self) -> bool {
        let state = self.run().map(|run| run.freezer().state());
        matches!(state, Some(Ok(State::Frozen)))
    }

    pub(super) fn current(&self) -> Current {
        self.0.current.borrow().clone()
    }

    /// The run and every change of it, for one that waits.
    pub(super) fn changes(&self) -> watch::Receiver<Current> {
        self.0.current.subscribe()
    }

    /// Sets the run. The caller holds the lock of [`Self::undo`].
    pub(super) fn set_current(&self, current: Current) {
        self.0.current.send_replace(current);
    }

    /// The undo list of the record and the layer. The holder of its lock alone changes the run.
    pub(super) fn undo(&self) -> &Mutex<Teardown> {
        &self.0.undo
    }

    pub(super) fn deps(&self) -> &Arc<Deps> {
        &self.0.deps
    }

    /// Whether this process has removed the record.
    pub(super) fn is_removed_here(&self) -> bool {
        self.0.claim.is_removed()
    }

    /// How this process got the handle.
    pub(super) fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The attempt that made the container.
    pub(super) fn attempt(&self) -> &str {
        self.0.origin.attempt()
    }

    /// Whether the cgroup of its run exists, so that no other container can have the name; see [`Run::is_intact`].
    pub(super) fn is_intact(&self) -> bool {
        self.run().is_some_and(|run| run.is_intact())
    }

    /// Leaves the container as it is: its watch ends, and its undo lists are emptied. A later process finds it by its
    /// record.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task.
    pub(crate) async fn leave(&self) {
        let this = self.clone();
        let leave = async move {
            this.leave_here().await;
            Ok(())
        };
        if let Err(error) = self.deps().finished(leave).await {
            tracing::error!(id = %self.id(), error = %crate::chain(&error), "cannot leave the container");
        }
    }

    /// Like [`Self::leave`], on the caller's own task, which must be tracked.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(super) async fn leave_here(&self) {
        let mut list = self.0.undo.lock().await;
        if let Some(run) = self.run() {
            let mut stage = run.stage().lock().await;
            run.leave(&mut stage);
        }
        list.forget();
    }

    /// Whether nothing is left to remove; `false` if that cannot be determined without waiting.
    pub(super) fn is_gone(&self) -> bool {
        let Ok(list) = self.0.undo.try_lock() else {
            return false;
        };
        let run = self.run();
        let undone = |run: &Run| run.stage().try_lock().is_ok_and(|stage| stage.is_undone());
        list.is_empty() && run.as_ref().is_none_or(undone)
    }

    /// Notes that the container is not removed completely, so that the next start continues if no other removal does.
    pub(super) fn note_unfinished(&self) {
        self.deps().note_unfinished(self.id(), self.attempt());
    }

    /// Notes that this process removes the container, for others to see, and in case it ends in the middle of it.
    pub(super) fn note_removal(&self) {
        if let Err(error) = self.deps().note_removal(self.id(), self.attempt()) {
            tracing::debug!(id = %self.id(), %error, "cannot note that the container is being removed");
        }
    }

    /// Removes the note, because nothing is left of this container.
    pub(super) fn forget_unfinished(&self) {
        self.deps().forget_unfinished(self.id(), self.attempt());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // An adopted container stays, and the next process finds it by its record. For a container made here, the drop
        // of a list that is not empty logs an error.
        if let Origin::Adopted { .. } = self.origin {
            self.undo.get_mut().forget();
        }
    }
}
