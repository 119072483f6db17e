//! One run of a container: its network, its cgroup, its streams and its first process, from the create until all of
//! them are removed.
//!
//! The lock of the [`Stage`] is held by tracked tasks, never by a future that a caller may drop. The one exception is a
//! fast freeze, which never waits while it holds the lock (see [`super::pause`]).

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::{Mutex, watch};

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::network::{self, NetworkHistory};
use super::oom::OomRecorder;
use super::pidfd::Alive;
use super::process::{Outcome, Process};
use super::reclaim::ReclaimTarget;
use super::run_parts::RunParts;
use super::stage::{Phase, Stage};
use super::traffic::Traffic;
use super::wait::{self, Exit, Watched};
use super::{Deps, undo};
use crate::cgroup::{CgroupIdentity, Freezer, Paths, State};
use crate::events::Action;
use crate::stdio::{StreamsLock, WeakStreamsLock};
use crate::teardown::{Failed, Teardown};
use crate::{ContainerId, Context, failpoint};

/// A handle to a run of a container; clones refer to the same run. Dropping a handle leaves the run as it is.
#[derive(Debug, Clone)]
pub(crate) struct Run(Arc<Inner>);

/// A weak handle to a run. It does not keep the run's descriptors open.
#[derive(Debug, Clone)]
pub(crate) struct WeakRun(Weak<Inner>);

impl WeakRun {
    /// The run, while another handle to it exists.
    pub(crate) fn upgrade(&self) -> Option<Run> {
        self.0.upgrade().map(Run)
    }
}

#[derive(Debug)]
struct Inner {
    deps: Arc<Deps>,
    id: ContainerId,
    init: Process,
    paths: Option<Paths>,
    freezer: Freezer,
    identity: Option<CgroupIdentity>,
    /// The out-of-memory kills that were seen.
    oom: Arc<OomRecorder>,
    network: NetworkHistory,
    /// Whether the run is on the host's network, once that was looked up.
    on_host_network: OnceLock<bool>,
    /// The run's part in taking memory back, if memory is taken back from frozen containers.
    idle: Option<Arc<ReclaimTarget>>,
    stage: Arc<Mutex<Stage>>,
    /// See [`RunParts::from_birth`].
    from_birth: bool,
    /// See [`RunParts::stays`].
    stays: bool,
    /// See [`RunParts::hold`].
    hold: WeakStreamsLock,
    /// See [`RunParts::terminal`].
    terminal: bool,
    /// Whether the event of its start is recorded.
    start_recorded: watch::Sender<bool>,
    /// The context of the run's background work, such as the watch.
    life: Context,
}

impl Run {
    /// Takes over a run and its undo list; starts to watch for its end.
    pub(super) fn new(deps: &Arc<Deps>, id: &ContainerId, parts: RunParts, undo: Teardown) -> Self {
        let RunParts {
            pid,
            ended,
            paths,
            above,
            memory,
            pumps,
            phase,
            from_birth,
            hold,
            terminal,
            tells_end,
            stays,
            network,
        } = parts;
        debug_assert!(undo::is_whole_run(&undo), "{undo:?}");
        let life = deps.background.life.child();
        let oom = Arc::new(OomRecorder::new(memory, deps.oom_log.as_ref()));
        let start_recorded = watch::Sender::new(phase == Phase::Running);
        let watched = match ended {
            Some(ended) => (wait::known(id, ended, paths.as_ref()), Alive::default()),
            None => {
                let watched = Watched {
                    id: id.clone(),
                    pid,
                    paths: paths.clone(),
                    above,
                    oom: Arc::clone(&oom),
                    from_birth,
                    start_recorded: tells_end.then(|| start_recorded.subscribe()),
                };
                wait::watch(deps, &life, watched)
            }
        };
        let freezer = paths.as_ref().and_then(|paths| Freezer::of(paths).ok());
        let freezer = freezer.unwrap_or_else(|| Freezer::None(PathBuf::new()));
        if from_birth {
            freezer.count_from_birth();
        }
        let idle = deps.reclaims.as_ref().zip(paths.as_ref());
        let idle = idle.map(|(_, paths)| ReclaimTarget::new(id, paths, &freezer));
        let this = Self(Arc::new(Inner {
            deps: Arc::clone(deps),
            id: id.clone(),
            init: Process::new(pid, watched, pumps),
            identity: paths.as_ref().and_then(CgroupIdentity::of),
            paths,
            freezer,
            oom,
            network,
            on_host_network: OnceLock::new(),
            idle,
            stage: Arc::new(Mutex::new(Stage { phase, undo })),
            from_birth,
            stays,
            hold,
            terminal,
            start_recorded,
            life,
        }));
        // An earlier process may have left it frozen. The delay for its memory ended with that process.
        if !from_birth && this.idle().is_some() && matches!(this.freezer().state(), Ok(State::Frozen)) {
            this.idle_begins();
        }
        this
    }

    /// A weak handle to this run.
    pub(crate) fn downgrade(&self) -> WeakRun {
        WeakRun(Arc::downgrade(&self.0))
    }

    /// Whether this is the run of the weak handle.
    pub(super) fn is(&self, other: &WeakRun) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.0), other.0.as_ptr())
    }

    /// The container's name.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.0.id
    }

    /// The pid of its first process, in the host's pid namespace; `None` if it had ended when the run was adopted.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.0.init.pid()
    }

    /// Its cgroups, if they were found.
    pub(crate) fn paths(&self) -> Option<&Paths> {
        self.0.paths.as_ref()
    }

    pub(super) fn deps(&self) -> &Arc<Deps> {
        &self.0.deps
    }

    /// The right to hold its streams, while this process copies them.
    pub(super) fn hold(&self) -> Option<StreamsLock> {
        self.0.hold.upgrade()
    }

    /// Whether the streams of its first process are one terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.0.terminal
    }

    /// The context of the run's background work.
    pub(super) fn life(&self) -> &Context {
        &self.0.life
    }

    pub(super) fn alive(&self) -> &Alive {
        self.0.init.alive()
    }

    pub(super) fn oom(&self) -> &OomRecorder {
        &self.0.oom
    }

    /// Sets the memory limit in bytes that its end is explained with, after a change.
    pub(super) fn set_memory_limit(&self, limit: Option<u64>) {
        self.oom().set_limit(limit);
    }

    pub(super) fn on_host_network(&self) -> &OnceLock<bool> {
        &self.0.on_host_network
    }

    pub(super) fn traffic_before(&self) -> Option<Traffic> {
        self.0.network.counted
    }

    pub(super) fn freezer(&self) -> &Freezer {
        &self.0.freezer
    }

    pub(super) fn idle(&self) -> Option<&Arc<ReclaimTarget>> {
        self.0.idle.as_ref()
    }

    pub(super) fn stage(&self) -> &Arc<Mutex<Stage>> {
        &self.0.stage
    }

    /// Whether this process has made it, and has watched it from its start.
    pub(super) fn is_from_birth(&self) -> bool {
        self.0.from_birth
    }

    /// Whether it waits behind its start gate.
    pub(crate) fn is_ready(&self) -> bool {
        self.stage()
            .try_lock()
            .is_ok_and(|stage| stage.phase == Phase::Ready)
    }

    /// How its process ended, if it has.
    pub(crate) fn exit_now(&self) -> Option<Exit> {
        self.0.init.exit_now()
    }

    /// The pids of its processes.
    pub(crate) fn processes(&self) -> std::collections::BTreeSet<u32> {
        let dir = self.paths().and_then(|paths| paths.dirs().next());
        dir.map(crate::cgroup::pids).unwrap_or_default()
    }

    /// Waits for the process to end, but not for its output. The exit is kept; `None` if the watch ends without one.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) fn wait_exit(&self) -> impl Future<Output = Option<Exit>> + Send + use<> {
        self.0.init.wait_exit()
    }

    /// Waits until the process has ended and all its output has been delivered. Returns `None` if `ctx` ends first, and
    /// leaves the run as it is.
    ///
    /// # Cancellation
    /// Safe to drop. May be called again, and by several callers at once.
    pub(crate) async fn wait(&self, ctx: &Context) -> Result<Option<Outcome>> {
        match (self.0.init.wait(ctx).await, ctx.interrupted()) {
            (None, None) => Err(self.out_of_order(Step::Wait, "it is closed")),
            (outcome, _) => Ok(outcome),
        }
    }

    /// Whether the cgroup that the run was made in still exists, so that no other container can have the name. If the
    /// cgroup is unknown: whether containerd has not lost the task.
    pub(super) fn is_intact(&self) -> bool {
        let known = self.0.identity.as_ref().map(CgroupIdentity::is_there);
        known.unwrap_or_else(|| !self.0.init.is_forgotten())
    }

    /// Starts the process, on the caller's own task, which must be tracked. If it fails, whether the process was started
    /// follows from which calls the run allows next; discarding the run removes the process either way.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(crate) async fn start_here(&self, ctx: &Context) -> Result<()> {
        let started = self.start_now(ctx);
        self.deps().phase("start", self.id(), started).await
    }

    /// Like [`Self::start_here`], as a part of another phase.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(super) async fn start_now(&self, ctx: &Context) -> Result<()> {
        let mut stage = self.stage().lock().await;
        match stage.phase {
            Phase::Ready => {}
            Phase::Running => return Err(self.out_of_order(Step::Start, "it was started before")),
            Phase::Over => return Err(self.out_of_order(Step::Start, "it is closed")),
        }
        ctx.check().at(Step::Start, self.id())?;
        if let Some(target) = &self.0.network.of {
            network::still_there(self.deps(), ctx, self.id(), target).await?;
        }
        let tasks = self.deps().session.tasks();
        tasks.start(ctx, self.id()).await.at(Step::Start, self.id())?;
        failpoint::reach("after", "start");
        stage.phase = Phase::Running;
        self.tell(Action::Start);
        self.0.start_recorded.send_replace(true);
        Ok(())
    }

    /// Kills the processes of the run and undoes all of it, last first. Returns the steps that failed; they stay for
    /// another discard.
    ///
    /// # Cancellation
    /// Not safe to drop: runs on a tracked task, which holds the stage.
    pub(super) async fn discard(&self, ctx: &Context, stage: &mut Stage) -> Vec<Failed> {
        let mut failed = self.end(ctx, stage).await;
        failed.extend(undo::rest_of_run(&mut stage.undo, ctx).await);
        failed
    }

    /// First half of [`Self::discard`]: ends the processes, and leaves on the list what no process uses any more.
    ///
    /// # Cancellation
    /// As for [`Self::discard`].
    pub(super) async fn end(&self, ctx: &Context, stage: &mut Stage) -> Vec<Failed> {
        self.idle_ends();
        if stage.phase != Phase::Ready && self.exit_now().is_none() {
            // The list below would kill too, but only through containerd, and a v1 freezer delays that.
            let in_time = ctx.halved();
            match self.kill_now(&in_time).await {
                Ok(()) => drop(in_time.run(self.wait_exit()).await),
                Err(error) => {
                    tracing::warn!(id = %self.id(), error = %crate::chain(&error), "cannot kill the container through its cgroup; containerd kills it");
                }
            }
        }
        stage.phase = Phase::Over;
        // A caller that closes before the result needs no more output.
        self.0.init.cut_off();
        undo::processes(&mut stage.undo, ctx).await
    }

    /// Like [`Self::discard`], for a run whose container's name now belongs to another container, or to none. Runs only
    /// these steps, because everything else no longer belongs to this run.
    ///
    /// # Cancellation
    /// As for [`Self::discard`].
    pub(super) async fn discard_only(&self, ctx: &Context, stage: &mut Stage, steps: &[&str]) -> Vec<Failed> {
        self.idle_ends();
        stage.phase = Phase::Over;
        self.0.init.cut_off();
        self.ends();
        stage.undo.keep_only(steps);
        stage.undo.run(ctx).await
    }

    /// Leaves the run as it is: a later process finds it by the container's record.
    pub(super) fn leave(&self, stage: &mut Stage) {
        self.idle_ends();
        stage.phase = Phase::Over;
        stage.undo.forget();
        self.0.init.cut_off();
        self.ends();
    }

    /// Ends the run's background work.
    pub(super) fn ends(&self) {
        self.0.life.cancel();
    }

    pub(super) fn out_of_order(&self, step: Step, why: &'static str) -> Error {
        Error::new(step, self.id(), Kind::OutOfOrder, why)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(idle) = &self.idle {
            idle.ends();
        }
        self.life.cancel();
        self.init.cut_off();
        if self.stays
            && let Some(stage) = Arc::get_mut(&mut self.stage)
        {
            stage.get_mut().undo.forget();
        }
    }
}
