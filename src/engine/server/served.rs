//! A container as a server knows it.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::OwnedMutexGuard;

use crate::cgroup::{self, Freezer};
use crate::containerd::Record;
use crate::engine::attach::{HeldStreams, SharedStreams};
use crate::engine::container::{Container, Current};
use crate::engine::deps::Deps;
use crate::engine::error::Result;
use crate::engine::facts::{self, Facts};
use crate::engine::find::{self, ListedContainer, State};
use crate::engine::health::Health;
use crate::engine::kept::{self, LastRun};
use crate::engine::plan::Plan;
use crate::engine::record;
use crate::engine::run::{Run, WeakRun};
use crate::engine::stop::DELIVERY;
use crate::engine::{label, names};
use crate::stdio::{LogQuery, LogReader};
use crate::{ContainerId, Context};

/// A container that a server looks after. Everything here is answered from memory and from the kernel.
#[derive(Debug)]
pub(crate) struct Served {
    container: Container,
    /// As it was when containerd last reported a change, without the parts that nothing here reads.
    known: Mutex<Known>,
    /// Held while its record is read, so that no older one takes the place of a newer one.
    look: tokio::sync::Mutex<()>,
    watched: Mutex<Watched>,
    /// Cancelled when the container is removed, or is known anew.
    gone: Context,
    /// The streams of every run whose streams this process holds. A reader may join before the first run.
    streams: SharedStreams,
    /// Held while a task does what the container needs.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The record, and what was read of it before.
#[derive(Debug)]
struct Known {
    record: Arc<Record>,
    plan: Option<Arc<Plan>>,
    /// A value of the type that the front door keeps.
    front: Option<Arc<dyn Any + Send + Sync>>,
}

/// What the server does about the container's run.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// The run whose end a task waits for.
    supervised: Option<WeakRun>,
    /// The streams that the server holds.
    held: Option<(WeakRun, HeldStreams)>,
    /// The restart that is about to happen.
    restart: Option<Context>,
    /// The pause before the last restart in a row.
    last_pause: Option<Duration>,
    /// The health of the last run that a task has probed, or probes.
    pub(super) health: Option<(WeakRun, Health)>,
    /// The run that has no streams to hold, or that this process has started, and so holds.
    needless: Option<WeakRun>,
}

impl Served {
    pub(super) fn new(container: Container, record: Record) -> Self {
        Self {
            container,
            known: Mutex::new(Known {
                record: Arc::new(facts::without_spec(record)),
                plan: None,
                front: None,
            }),
            look: tokio::sync::Mutex::default(),
            watched: Mutex::default(),
            gone: Context::new(),
            streams: SharedStreams::with_input(),
            turn: Arc::default(),
        }
    }

    /// The container's id.
    pub(crate) fn id(&self) -> &ContainerId {
        self.container.id()
    }

    /// Its name, if it has one beside its id.
    pub(crate) fn name(&self) -> Option<String> {
        names::name_of(&self.record()).map(str::to_owned)
    }

    /// The container.
    pub(crate) fn container(&self) -> &Container {
        &self.container
    }

    /// The plan that it was made from.
    ///
    /// # Errors
    /// [`Kind::OutOfOrder`](crate::engine::Kind::OutOfOrder) if it was not made to be kept.
    pub(crate) fn plan(&self) -> Result<Arc<Plan>> {
        let record = {
            let known = self.known();
            if let Some(plan) = &known.plan {
                return Ok(Arc::clone(plan));
            }
            Arc::clone(&known.record)
        };
        let plan = Arc::new(kept::plan_of(&record)?);
        let mut known = self.known();
        if Arc::ptr_eq(&known.record, &record) {
            known.plan = Some(Arc::clone(&plan));
        }
        Ok(plan)
    }

    /// What the front door that made it has kept on its record; `None` if none has, or it cannot be read as a `T`.
    pub(crate) fn front<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let record = {
            let known = self.known();
            if let Some(front) = &known.front {
                return Arc::clone(front).downcast().ok();
            }
            Arc::clone(&known.record)
        };
        let front: Arc<T> = Arc::new(kept::front_of(&record)?);
        let mut known = self.known();
        if Arc::ptr_eq(&known.record, &record) {
            known.front = Some(Arc::clone(&front) as _);
        }
        Some(front)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container as a list shows it. Whether it is frozen is read from its cgroup.
    pub(crate) fn look(&self) -> ListedContainer {
        let (record, current) = (self.record(), self.container.current());
        let exit = current.run.as_ref().and_then(Run::exit_now);
        let alive = current.run.as_ref().filter(|_| exit.is_none());
        // The end counts from the moment that it is known, not only when it is on the record.
        let last_run = match (&current.last, &exit) {
            (Some(last @ LastRun::Started { .. }), Some(exit)) if exit.code.is_some() => {
                Some(last.ended(exit))
            }
            (last, _) => last.clone(),
        };
        let Facts {
            command, placement, ..
        } = Facts::of(&record);
        ListedContainer {
            id: record.id.clone(),
            name: names::name_of(&record).map(str::to_owned),
            image: record.image.clone(),
            command,
            state: match state_of(self.container.deps(), &record, &current) {
                State::Exited(_) | State::Dead if self.is_restarting() || self.will_restart(&current) => {
                    State::Restarting
                }
                state => state,
            },
            pid: alive.and_then(Run::pid),
            created_at: record.created_at,
            labels: record.labels.clone(),
            paths: alive.and_then(|run| run.paths().cloned()),
            cgroup_name: placement.map(|placement| placement.name),
            last_run,
            start_error: kept::start_error(&record),
            restarts: kept::restarts(&record),
        }
    }

    /// Reads the output that was kept; see [`Container::log`].
    ///
    /// # Errors
    /// As for [`Container::log`].
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn log(&self, query: LogQuery, follow: bool) -> Result<LogReader> {
        self.container.log(&self.record(), query, follow).await
    }

    pub(super) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.known().record)
    }

    pub(super) fn set_record(&self, record: Record) {
        let mut known = self.known();
        let front = |record: &Record| record.extensions.get(kept::FRONT).cloned();
        if front(&known.record) != front(&record) {
            known.front = None;
        }
        known.record = Arc::new(facts::without_spec(record));
        known.plan = None;
    }

    /// The right to read its record and to change what is known of it.
    pub(super) fn look_lock(&self) -> &tokio::sync::Mutex<()> {
        &self.look
    }

    /// The current run, if no task waits for its end yet; the caller starts one.
    pub(super) fn run_to_supervise(&self) -> Option<Run> {
        let run = self.container.run()?;
        let mut watched = self.watched();
        if watched.supervised.as_ref().is_some_and(|known| run.is(known)) {
            return None;
        }
        watched.supervised = Some(run.downgrade());
        Some(run)
    }

    /// Whether the server holds the streams of this run, or the run has none.
    pub(super) fn holds(&self, run: &Run) -> bool {
        let watched = self.watched();
        let carries = |(of, held): &(WeakRun, HeldStreams)| run.is(of) && held.are_carried();
        watched.held.as_ref().is_some_and(carries) || watched.needless.as_ref().is_some_and(|of| run.is(of))
    }

    /// Notes that the streams of the run need not be taken over.
    pub(super) fn set_needless(&self, run: &Run) {
        self.watched().needless = Some(run.downgrade());
    }

    /// Cancelled when the container is removed. For one that is not kept, also when it is known anew.
    pub(super) fn gone(&self) -> &Context {
        &self.gone
    }

    /// The container was removed: those who wait for that are told, and those who have attached before its first run get
    /// the end of the output.
    pub(super) fn ends(&self) {
        self.gone.cancel();
        self.streams.end();
    }

    /// The streams of its runs.
    pub(super) fn streams(&self) -> &SharedStreams {
        &self.streams
    }

    /// Waits until those who are attached have all output of this run, if the server holds its streams.
    async fn deliver(&self, run: &Run, ctx: &Context) {
        let held = match &self.watched().held {
            Some((of, held)) if run.is(of) => Some(held.clone()),
            _ => None,
        };
        if let Some(held) = held {
            held.delivered(ctx).await;
        }
    }

    /// Waits until those who are attached have all output of a run that has ended, for a bounded time.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn delivered(&self, run: &Run, ctx: &Context) {
        let ctx = ctx.with_timeout(DELIVERY);
        self.streams.exited();
        self.deliver(run, &ctx).await;
        // The run that this process has started carries its own streams.
        drop(run.wait(&ctx).await);
    }

    /// Whether the container is about to be started again.
    pub(crate) fn is_restarting(&self) -> bool {
        self.watched().restart.is_some()
    }

    /// Whether its run has ended a moment ago, and its policy starts it again: the task that waits for the end has not noted
    /// that yet.
    fn will_restart(&self, current: &Current) -> bool {
        let exit = current.run.as_ref().and_then(Run::exit_now);
        let (Some(LastRun::Started { .. }), Some(exit)) = (&current.last, exit) else {
            return false;
        };
        let record = self.record();
        let is_left = record.labels.contains_key(label::DETACHED) && exit.code.is_some();
        let policy = self.plan().map(|plan| plan.restart).unwrap_or_default();
        is_left && policy.may_follow(exit.code, kept::restarts(&record))
    }

    /// Gives a restart up that is about to happen.
    pub(crate) fn cancel_restart(&self) {
        if let Some(restart) = &self.watched().restart {
            restart.cancel();
        }
    }

    /// Notes that the container is about to be started again, until the guard is dropped; `None` if it is already. The guard's
    /// context ends when the restart is given up, or the container is removed.
    pub(super) fn begin_restart(self: &Arc<Self>) -> Option<Restart> {
        let ctx = self.gone.child();
        let mut watched = self.watched();
        if watched.restart.is_some() {
            return None;
        }
        watched.restart = Some(ctx.clone());
        let served = Arc::clone(self);
        Some(Restart { served, ctx })
    }

    pub(super) fn last_pause(&self) -> Option<Duration> {
        self.watched().last_pause
    }

    pub(super) fn set_last_pause(&self, pause: Option<Duration>) {
        self.watched().last_pause = pause;
    }

    /// The right to do what the container needs; `None` if another task has it.
    pub(super) fn take_turn(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    pub(super) fn set_held(&self, run: &Run, streams: HeldStreams) {
        self.watched().held = Some((run.downgrade(), streams));
    }

    pub(super) fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A restart that is about to happen.
#[derive(Debug)]
pub(super) struct Restart {
    served: Arc<Served>,
    ctx: Context,
}

impl Restart {
    /// Ends when the restart is given up.
    pub(super) fn ctx(&self) -> &Context {
        &self.ctx
    }
}

impl Drop for Restart {
    fn drop(&mut self) {
        self.served.watched().restart = None;
    }
}

fn state_of(deps: &Deps, record: &Record, Current { run, last }: &Current) -> State {
    if deps.is_being_removed(&record.id, record::attempt_of(record)) {
        return State::Removing;
    }
    let Some(run) = run else {
        return find::state_without_process(record, last.as_ref());
    };
    match run.exit_now().map(|exit| exit.code) {
        Some(Some(code)) => State::Exited(code),
        Some(None) => find::state_without_task(deps, record, last.as_ref()),
        None if run.is_ready() => State::Created,
        None if is_frozen(run) => State::Frozen,
        None => State::Running,
    }
}

/// Whether the kernel reports a run as frozen. The run's own freezer would keep the files open, of every container.
fn is_frozen(run: &Run) -> bool {
    let freezer = run.paths().and_then(|paths| Freezer::of(paths).ok());
    matches!(
        freezer.map(|freezer| freezer.state()),
        Some(Ok(cgroup::State::Frozen))
    )
}
