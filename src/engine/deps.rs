//! What every operation of the engine needs, and the two ways in which its work runs on tasks of its own.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::config::Config;
use super::error::{Error, Kind, Result, Step};
use super::exits::Exits;
use super::host::HostFacts;
use super::reclaim::Reclaims;
use super::slot::Slot;
use crate::cgroup::OomLog;
use crate::containerd::Session;
use crate::image::{Cache, ImageStore, Puller};
use crate::sandbox::Sandboxes;
use crate::sandbox::pool::Pool;
use crate::{ContainerId, Context, tracked};

/// Removes a slot that comes back after its pool has ended.
pub(super) type DiscardSlot = fn(Arc<Deps>, Slot) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A handle to the engine; clones are the same engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine(pub(super) Arc<Deps>);

/// What every operation needs.
#[derive(Debug)]
pub(super) struct Deps {
    pub(super) config: Config,
    pub(super) session: Session,
    pub(super) host: HostFacts,
    pub(super) images: Images,
    pub(super) networks: Networks,
    pub(super) exits: Exits,
    /// Where systemd removes cgroups before anybody has read their end, and the kernel's log can be read.
    pub(super) oom_log: Option<Arc<OomLog>>,
    /// Where the snapshotter keeps its files, once somebody had to know; `None` if it does not tell.
    pub(super) snapshotter_root: OnceCell<Option<PathBuf>>,
    pub(super) reclaims: Option<Reclaims>,
    pub(super) background: Background,
}

/// The images that are here, and how more come.
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
    /// The keeper's, for a slot that comes back late.
    pub(super) discard_slot: DiscardSlot,
}

/// The engine's own work.
#[derive(Debug)]
pub(super) struct Background {
    /// Every task of the engine belongs to it.
    pub(super) tracker: TaskTracker,
    /// Counts the work at the start that undoes what earlier processes left; see [`Engine::recovered`].
    pub(super) recovery: TaskTracker,
    /// Ends with the engine.
    pub(super) life: Context,
    /// An engine that nobody closed, or that was never finished, ends with its last handle.
    _end: DropGuard,
}

impl Background {
    pub(super) fn new() -> Self {
        let life = Context::new();
        Self {
            tracker: TaskTracker::new(),
            recovery: TaskTracker::new(),
            _end: life.cancel_on_drop(),
            life,
        }
    }
}

impl Deps {
    /// Where the fifos of a container are.
    pub(super) fn fifo_dir(&self, id: &ContainerId) -> PathBuf {
        self.config
            .run_dir
            .join(self.config.namespace.as_str())
            .join(id.as_str())
    }

    /// Begins work that undoes what earlier processes left, in the background.
    pub(super) fn recover(&self, work: impl Future<Output = ()> + Send + 'static) {
        let counted = self.background.recovery.track_future(work);
        self.background.tracker.spawn(counted.in_current_span());
    }

    /// Runs an operation that changes the world on its own task. A caller that goes away cancels it, and it unwinds.
    pub(super) async fn tracked<T, F>(&self, ctx: &Context, op: impl FnOnce(Context) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let done = tracked::run(&self.background.tracker, ctx, op).await;
        done.map_err(|panic| Error::new(Step::Finish, "an operation", Kind::Internal, panic))?
    }

    /// Runs an operation that goes on to its end, whoever waits for it.
    pub(super) async fn finished<T: Send + 'static>(
        &self,
        op: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let done = tracked::finish(&self.background.tracker, op).await;
        done.map_err(|panic| Error::new(Step::Finish, "an operation", Kind::Internal, panic))?
    }
}
