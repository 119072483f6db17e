//! A container as a server knows it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::cgroup::{self, Freezer};
use crate::containerd::Record;
use crate::engine::attach::{HeldStreams, SharedStreams};
use crate::engine::container::{Container, Current};
use crate::engine::deps::Deps;
use crate::engine::error::Result;
use crate::engine::facts::{self, Facts};
use crate::engine::find::{self, ListedContainer, State};
use crate::engine::kept;
use crate::engine::names;
use crate::engine::plan::Plan;
use crate::engine::record;
use crate::engine::run::{Run, WeakRun};
use crate::engine::stop::DELIVERY;
use crate::{ContainerId, Context};

/// A container that a server looks after. Everything here is answered from memory and from the kernel.
#[derive(Debug)]
pub(crate) struct Served {
    container: Container,
    /// As it was when containerd last reported a change, without the parts that nothing here reads.
    record: Mutex<Arc<Record>>,
    watched: Mutex<Watched>,
    /// The streams of every run whose streams this process holds. A reader may join before the first run.
    streams: SharedStreams,
    /// Held while a task does what the container needs.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What the server does about the container's run.
#[derive(Debug, Default)]
struct Watched {
    /// The run whose end a task waits for.
    supervised: Option<WeakRun>,
    /// The streams that the server holds.
    held: Option<(WeakRun, HeldStreams)>,
    /// The run that has no streams to hold, or that this process has started, and so holds.
    needless: Option<WeakRun>,
}

impl Served {
    pub(super) fn new(container: Container, record: Record) -> Self {
        Self {
            container,
            record: Mutex::new(Arc::new(facts::without_spec(record))),
            watched: Mutex::default(),
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
    pub(crate) fn plan(&self) -> Result<Plan> {
        kept::plan_of(&self.record())
    }

    /// What the front door that made it has kept on its record, if one has.
    pub(crate) fn front(&self) -> Option<serde_json::Value> {
        kept::front_of(&self.record())
    }

    /// The container as a list shows it. Whether it is frozen is read from its cgroup.
    pub(crate) fn look(&self) -> ListedContainer {
        let (record, current) = (self.record(), self.container.current());
        let alive = current.run.as_ref().filter(|run| run.exit_now().is_none());
        let Facts {
            command, placement, ..
        } = Facts::of(&record);
        ListedContainer {
            id: record.id.clone(),
            name: names::name_of(&record).map(str::to_owned),
            image: record.image.clone(),
            command,
            state: state_of(self.container.deps(), &record, &current),
            pid: alive.and_then(Run::pid),
            created_at: record.created_at,
            labels: record.labels.clone(),
            paths: alive.and_then(|run| run.paths().cloned()),
            cgroup_name: placement.map(|placement| placement.name),
            last_run: current.last,
            start_error: kept::start_error(&record),
        }
    }

    pub(super) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_record(&self, record: Record) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts::without_spec(record));
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
        self.deliver(run, &ctx).await;
        // The run that this process has started carries its own streams.
        drop(run.wait(&ctx).await);
    }

    /// The right to do what the container needs; `None` if another task has it.
    pub(super) fn take_turn(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    pub(super) fn set_held(&self, run: &Run, streams: HeldStreams) {
        self.watched().held = Some((run.downgrade(), streams));
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
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
