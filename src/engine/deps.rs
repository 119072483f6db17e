//! The state that every operation of the engine needs, and the two ways to run work on tasks of its own.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, field};

use super::config::Config;
use super::error::{Error, Kind, Result, Step};
use super::exits::Exits;
use super::host::HostFacts;
use super::name_index::NameIndex;
use super::reclaim::Reclaims;
use super::slot::{Slot, Spoiled};
use crate::cgroup::OomLog;
use crate::containerd::{Record, Session};
use crate::events::EventLog;
use crate::ids::stable_hash;
use crate::image::{Cache, ImageStore, Puller};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::sandbox::Sandboxes;
use crate::stdio::LogFiles;
use crate::teardown::Teardown;
use crate::{ContainerId, Context, tracked};

/// Removes a slot that comes back after its pool has ended.
pub(super) type DiscardSlot = fn(Arc<Deps>, Slot) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A handle to the engine; clones refer to the same engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine(pub(super) Arc<Deps>);

/// The state that every operation needs.
#[derive(Debug)]
pub(super) struct Deps {
    pub(super) config: Config,
    pub(super) session: Session,
    pub(super) host: HostFacts,
    pub(super) images: Images,
    pub(super) networks: Networks,
    pub(super) exits: Exits,
    pub(super) names: NameIndex,
    pub(super) events: Arc<EventLog>,
    /// The logs of containers that this process writes.
    pub(super) logs: LogFiles,
    /// The records, for the engine of a command that lists all containers; empty for any other.
    pub(super) first: Arc<OnceCell<Vec<Record>>>,
    /// The kernel's log, if it can be read and systemd makes the cgroups: systemd removes them before their counters
    /// are read.
    pub(super) oom_log: Option<Arc<OomLog>>,
    /// Where the snapshotter keeps its files, looked up when it is first needed; `None` if the snapshotter does not
    /// report it.
    pub(super) snapshotter_root: OnceCell<Option<PathBuf>>,
    /// Where containerd keeps the bundles of this containerd namespace, once a shim has shown it.
    pub(super) bundles_dir: OnceLock<PathBuf>,
    pub(super) reclaims: Option<Reclaims>,
    /// A place for each copy from or to a container; see `files`.
    pub(super) copies: Arc<Semaphore>,
    pub(super) background: Background,
}

/// Local images, and how more are pulled.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) store: Arc<ImageStore>,
    pub(super) puller: Puller,
    pub(super) cache: Cache,
}

/// The networks of containers.
#[derive(Debug)]
pub(super) struct Networks {
    /// Opened when it is first needed.
    pub(super) sandboxes: OnceCell<Sandboxes>,
    pub(super) pool: Option<Pool<Slot>>,
    /// The sandboxes that no other container may have, because one that joined them could change them.
    pub(super) spoiled: Spoiled,
    /// The keeper's function for a slot that comes back after the pool has ended.
    pub(super) discard_slot: DiscardSlot,
}

/// The engine's background work.
#[derive(Debug)]
pub(super) struct Background {
    /// Every task of the engine belongs to it.
    pub(super) tracker: TaskTracker,
    /// Tracks the work at the start that undoes what earlier processes left; see [`Engine::recovered`].
    pub(super) recovery: TaskTracker,
    /// The runtime for tasks that a drop starts: a drop may run on any thread.
    pub(super) runtime: Handle,
    /// Ends with the engine.
    pub(super) life: Context,
    /// Ends the engine with its last handle if it was not closed, or its connect failed.
    _end: DropGuard,
}

impl Background {
    pub(super) fn new() -> Self {
        let life = Context::new();
        Self {
            runtime: Handle::current(),
            tracker: TaskTracker::new(),
            recovery: TaskTracker::new(),
            _end: life.cancel_on_drop(),
            life,
        }
    }
}

impl Deps {
    /// The directory of a container's fifos.
    pub(super) fn fifo_dir(&self, id: &ContainerId) -> PathBuf {
        self.config
            .run_dir
            .join(self.config.namespace.as_str())
            .join(id.as_str())
    }

    /// The directory for `what` of this instance that outlives a reboot. Two containerds of one host may have equal
    /// namespaces.
    pub(super) fn data_dir(&self, what: &str) -> PathBuf {
        let hash = stable_hash(self.config.address.as_os_str().as_encoded_bytes());
        let instance = format!("{}-{:08x}", self.config.namespace, hash >> 32);
        self.config.data_dir.join(what).join(instance)
    }

    /// Starts work that undoes what earlier processes left, in the background.
    pub(super) fn recover(&self, work: impl Future<Output = ()> + Send + 'static) {
        let counted = self.background.recovery.track_future(work);
        self.background.tracker.spawn(counted.in_current_span());
    }

    /// An empty undo list for a container or its run.
    pub(super) fn undo_list(&self, id: &ContainerId) -> Teardown {
        Teardown::new(id.as_str(), self.session.metrics())
    }

    /// What this engine counts.
    pub(super) fn metrics(&self) -> &Metrics {
        self.session.metrics()
    }

    /// Times a phase, in a span of its own. The fields whose names begin with `otel.` are what OpenTelemetry takes for
    /// the name and the status.
    pub(super) async fn phase<T>(
        &self,
        name: &'static str,
        id: &ContainerId,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        let span = tracing::debug_span!(
            "phase",
            otel.name = name,
            name,
            %id,
            outcome = field::Empty,
            otel.status_description = field::Empty
        );
        let done = work.instrument(span.clone()).await;
        let outcome = done.as_ref().map_or_else(|error| error.kind().name(), |_| "ok");
        span.record("outcome", outcome);
        if let (Err(error), false) = (&done, span.is_disabled()) {
            span.record("otel.status_description", crate::chain(error));
        }
        self.metrics().phase(name, outcome, began.elapsed());
        done
    }

    /// Runs an operation that changes something on its own task. If the caller drops the future, the operation is
    /// cancelled, and undoes its change on its task.
    pub(super) async fn tracked<T, F>(&self, ctx: &Context, op: impl FnOnce(Context) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let done = tracked::run(&self.background.tracker, ctx, op).await;
        done.map_err(|panic| Error::new(Step::Finish, "an operation", Kind::Internal, panic))?
    }

    /// Runs an operation to its end on its own task, even if the caller drops the future.
    pub(super) async fn finished<T: Send + 'static>(
        &self,
        op: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let done = tracked::finish(&self.background.tracker, op).await;
        done.map_err(|panic| Error::new(Step::Finish, "an operation", Kind::Internal, panic))?
    }
}
