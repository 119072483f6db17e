//! A container that exists: its phase, the watch on its end, its streams, and the list of what must be undone.
//!
//! The phase lock is held by tracked tasks, never by a future that a caller may drop. The one exception never waits with
//! it: a fast freeze (see [`super::pause`]).

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::{Mutex, OnceCell, watch};

use super::error::{At as _, Error, Kind, Result, Step};
use super::network::Past;
use super::oom::Witness;
use super::process::Alive;
use super::reclaim::Idle;
use super::record::{Origin, Owner};
use super::traffic::Traffic;
use super::wait::{self, Ended, Exit, Watched};
use super::{Deps, error, network};
use crate::cgroup::{CgroupIdentity, Freezer, Paths, State};
use crate::stdio::{Pumps, StreamError};
use crate::teardown::Teardown;
use crate::{ContainerId, Context};

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The process waits behind its start gate.
    Created,
    /// It was started; whether it still runs is the exit watch's to say.
    Running,
    /// Everything was undone.
    Closed,
}

/// A handle to a container; clones are the same container.
#[derive(Debug, Clone)]
pub(crate) struct Container(Arc<Inner>);

/// What only looks at a container: it does not count among the handles of which the last one's end is the container's.
#[derive(Debug, Clone)]
pub(crate) struct WeakContainer(Weak<Inner>);

impl WeakContainer {
    /// The container, while somebody holds it.
    pub(crate) fn upgrade(&self) -> Option<Container> {
        self.0.upgrade().map(Container)
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) deps: Arc<Deps>,
    pub(super) id: ContainerId,
    pub(super) pid: Option<u32>,
    pub(super) paths: Option<Paths>,
    pub(super) freezer: Freezer,
    pub(super) origin: Origin,
    pub(super) mark: Option<CgroupIdentity>,
    pub(super) phase: Arc<Mutex<Phase>>,
    pub(super) undo: Mutex<Option<Teardown>>,
    pub(super) exit: watch::Receiver<Option<Exit>>,
    /// The process, until its end has been noticed.
    pub(super) alive: Alive,
    /// What was seen of kills for memory.
    pub(super) witness: Arc<Witness>,
    /// Whether its network is the host's, once that was looked up.
    pub(super) on_host_network: OnceLock<bool>,
    network: Past,
    pub(super) pumps: Arc<Pumps>,
    /// Stands for the container's own background work (the watch); cancelled at close.
    pub(super) life: Context,
    /// The outcome is read once and then kept, however many wait for it.
    pub(super) outcome: OnceCell<Outcome>,
    /// Its memory, if that is taken back while it is frozen.
    pub(super) idle: Option<Arc<Idle>>,
}

/// What there is to say about a container that ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// How its process ended.
    pub(crate) exit: Exit,
    /// Why not all of its output was delivered, if so.
    pub(crate) streams: Option<Arc<StreamError>>,
}

/// What `create` and `adopt` know about a process.
#[derive(Debug)]
pub(super) struct Process {
    /// `None` if it has ended: its number may be somebody else's by now.
    pub(super) pid: Option<u32>,
    /// How it ended, if it has.
    pub(super) ended: Option<Ended>,
    pub(super) paths: Option<Paths>,
    /// Bytes of memory that it was made with, if it has such a limit.
    pub(super) memory: Option<u64>,
    pub(super) pumps: Arc<Pumps>,
    pub(super) phase: Phase,
    pub(super) origin: Origin,
    pub(super) network: Past,
}

impl Container {
    /// Takes over a process and the list of what undoes it; starts to watch for its end.
    pub(super) fn new(deps: &Arc<Deps>, id: &ContainerId, process: Process, undo: Teardown) -> Self {
        let Process {
            pid,
            ended,
            paths,
            memory,
            pumps,
            phase,
            origin,
            network,
        } = process;
        debug_assert!(super::undo::is_whole(&undo), "{undo:?}");
        let life = deps.life.child();
        let from_birth = matches!(origin, Origin::Made { .. });
        let witness = Arc::new(Witness::new(memory, deps.oom_log.as_ref()));
        let (exit, alive) = match ended {
            Some(ended) => (wait::known(id, ended, paths.as_ref()), Alive::default()),
            None => {
                let watched = Watched {
                    id: id.clone(),
                    pid,
                    paths: paths.clone(),
                    witness: Arc::clone(&witness),
                    from_birth,
                };
                wait::watch(deps, &life, watched)
            }
        };
        let freezer = paths
            .as_ref()
            .and_then(|paths| Freezer::of(paths).ok())
            .unwrap_or_else(|| Freezer::None(PathBuf::new()));
        if from_birth {
            freezer.count_from_birth();
        }
        let idle = deps.reclaims.as_ref().zip(paths.as_ref());
        let idle = idle.map(|(_, paths)| Idle::new(id, paths, &freezer));
        let adopted = matches!(origin, Origin::Adopted { .. });
        let this = Self(Arc::new(Inner {
            deps: Arc::clone(deps),
            id: id.clone(),
            pid,
            mark: paths.as_ref().and_then(CgroupIdentity::of),
            paths,
            freezer,
            origin,
            phase: Arc::new(Mutex::new(phase)),
            undo: Mutex::new(Some(undo)),
            exit,
            alive,
            witness,
            on_host_network: OnceLock::new(),
            network,
            pumps,
            life,
            outcome: OnceCell::new(),
            idle,
        }));
        // An earlier process may have left it frozen, and its delay ended with that process.
        if adopted && this.idle().is_some() && matches!(this.freezer().state(), Ok(State::Frozen)) {
            this.idle_begins();
        }
        this
    }

    /// The container's name.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.0.id
    }

    /// The pid of its first process, in the host's pid namespace; `None` if it had ended when this handle was made.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.0.pid
    }

    /// Its cgroups, where they could be found.
    pub(crate) fn paths(&self) -> Option<&Paths> {
        self.0.paths.as_ref()
    }

    pub(super) fn deps(&self) -> &Arc<Deps> {
        &self.0.deps
    }

    pub(super) fn alive(&self) -> &Alive {
        &self.0.alive
    }

    pub(super) fn witness(&self) -> &Witness {
        &self.0.witness
    }

    pub(super) fn on_host_network(&self) -> &OnceLock<bool> {
        &self.0.on_host_network
    }

    pub(super) fn network_before(&self) -> Option<Traffic> {
        self.0.network.counted
    }

    pub(super) fn freezer(&self) -> &Freezer {
        &self.0.freezer
    }

    pub(super) fn idle(&self) -> Option<&Arc<Idle>> {
        self.0.idle.as_ref()
    }

    pub(super) fn phase(&self) -> &Arc<Mutex<Phase>> {
        &self.0.phase
    }

    /// Whether it waits behind its start gate.
    pub(crate) async fn is_created(&self) -> bool {
        *self.phase().lock().await == Phase::Created
    }

    /// How its process ended, if it has.
    pub(crate) fn exit_now(&self) -> Option<Exit> {
        self.0.exit.borrow().clone()
    }

    /// Waits for the process to end, without its output; what is known then is kept.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) fn wait_exit(&self) -> impl Future<Output = Option<Exit>> + Send + use<> {
        let mut exit = self.0.exit.clone();
        async move { wait::ended(&mut exit).await }
    }

    /// A look at it that does not keep it.
    pub(crate) fn downgrade(&self) -> WeakContainer {
        WeakContainer(Arc::downgrade(&self.0))
    }

    /// Starts the process.
    ///
    /// # Cancellation
    /// Not safe to drop: [`Container::start`] runs it on a tracked task.
    pub(super) async fn start_now(&self, ctx: &Context) -> Result<()> {
        let mut phase = self.phase().lock().await;
        match *phase {
            Phase::Created => {}
            Phase::Running => return Err(self.out_of_order(Step::Start, "it was started before")),
            Phase::Closed => return Err(self.out_of_order(Step::Start, "it is closed")),
        }
        ctx.check().at(Step::Start, self.id())?;
        if let Some(target) = &self.0.network.of {
            network::still_there(self.deps(), ctx, self.id(), target).await?;
        }
        self.deps()
            .session
            .tasks()
            .start(ctx, self.id())
            .await
            .at(Step::Start, self.id())?;
        *phase = Phase::Running;
        Ok(())
    }

    /// Waits until the process has ended and all its output has been delivered.
    /// `None` if `ctx` ends first; the container is then as it was.
    ///
    /// # Cancellation
    /// Safe to drop; may be called again, and by several at once.
    pub(crate) async fn wait(&self, ctx: &Context) -> Result<Option<Outcome>> {
        if let Some(outcome) = self.0.outcome.get() {
            return Ok(Some(outcome.clone()));
        }
        let mut exit = self.0.exit.clone();
        let ended = match ctx.run(wait::ended(&mut exit)).await {
            Ok(ended) => ended,
            // Of an end and an interruption at the same moment the end is the better answer.
            Err(_) => self.exit_now(),
        };
        let Some(exit) = ended else {
            return match ctx.interrupted() {
                Some(_) => Ok(None),
                None => Err(self.out_of_order(Step::Wait, "it is closed")),
            };
        };
        let streams = self.0.pumps.finished(ctx).await.err().map(Arc::new);
        if streams
            .as_ref()
            .is_some_and(|error| matches!(**error, StreamError::Interrupted(_)))
        {
            // Not all output is delivered yet, so this is not the last word.
            return Ok(Some(Outcome { exit, streams: None }));
        }
        Ok(Some(
            self.0
                .outcome
                .get_or_init(|| async { Outcome { exit, streams } })
                .await
                .clone(),
        ))
    }

    /// Kills what runs and undoes everything, last first. Idempotent, in every phase. What could not be undone is the
    /// error, and closing again tries it again.
    ///
    /// # Cancellation
    /// Continues on its own task, with its own clock.
    pub(crate) async fn close(&self) -> Result<()> {
        let this = self.clone();
        self.deps().finished(async move { this.close_here().await }).await
    }

    /// The same on the caller's own tracked task.
    ///
    /// # Cancellation
    /// Not safe to drop.
    pub(crate) async fn close_here(&self) -> Result<()> {
        self.idle_ends();
        let mut phase = self.phase().lock().await;
        let mut list = self.0.undo.lock().await;
        let Some(undo) = list.take() else {
            return Ok(());
        };
        // The clock starts with the work, not with the wait for whoever held the lock.
        let ctx = Context::timeout(self.deps().config.close_grace);
        match self.0.owner(&ctx).await {
            Ok(Owner::This) => {}
            Ok(other) => {
                let mut own = undo.only(network::STEP);
                *phase = Phase::Closed;
                self.0.pumps.abort();
                self.0.life.cancel();
                let failed = own.run(&ctx).await;
                let files = self.0.leave_to(&other);
                if !failed.is_empty() || files.is_err() {
                    *list = Some(own);
                }
                error::report(Step::Close, self.id(), failed)?;
                return files;
            }
            Err(error) => {
                *list = Some(undo);
                self.0.note_unfinished();
                return Err(error).at(Step::Close, self.id());
            }
        }
        let mut undo = undo;
        if *phase != Phase::Created && self.exit_now().is_none() {
            // The list below would kill too, but only containerd's way, which a v1 freezer holds up.
            let in_time = ctx.halved();
            match self.kill_now(&in_time).await {
                Ok(()) => drop(in_time.run(self.wait_exit()).await),
                Err(error) => {
                    tracing::warn!(id = %self.id(), error = %crate::chain(&error), "cannot kill the container through its cgroup; containerd kills it");
                }
            }
        }
        *phase = Phase::Closed;
        // A caller that closes before the result wants no more output.
        self.0.pumps.abort();
        let failed = undo.run(&ctx).await;
        if failed.is_empty() {
            self.0.life.cancel();
            self.deps().forget_unfinished(self.id(), self.0.origin.attempt());
        } else {
            *list = Some(undo);
            self.0.note_unfinished();
        }
        error::report(Step::Close, self.id(), failed)
    }

    /// Leaves the container running and forgets it: a later process finds it by its labels.
    pub(crate) async fn detach(&self) {
        self.idle_ends();
        if let Some(undo) = self.0.undo.lock().await.take() {
            undo.forget();
        }
        self.0.pumps.abort();
        self.0.life.cancel();
    }

    pub(super) fn out_of_order(&self, step: Step, why: &'static str) -> Error {
        Error::new(step, self.id(), Kind::OutOfOrder, why)
    }
}
