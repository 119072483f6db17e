//! The life of a container: plan → resolve → create → start → wait → close.
//!
//! Three lifetimes are nested: a [`container`] (its record and its writable layer) has a [`run`] (network, cgroup, streams),
//! which has a [`process`]. Each of the first two has one list of what undoes it; see [`undo`].
//!
//! ```text
//!            resolve            create             start
//!   Plan ───────────► Image ───────────► Created ─────────► Running ──► (exit, all output) ──► Outcome
//!     │                  │                  │                 │ ▲ │                               │
//!     │ not there: None  │ anything fails:  │           freeze│ │ │thaw                           │
//!     ▼                  ▼ undo, last first ▼                 ▼ │ │                               ▼
//!   (pulled first)     nothing is left    close             Frozen                             close
//!                                           └──────────────────┴───────► nothing is left ◄────────┘
//! ```
//!
//! A life costs nine containerd calls, and each is needed:
//!
//! | call | why |
//! |---|---|
//! | Images/Get | the name may have moved to another image; what it points at is cached by digest |
//! | Containers/Create | claims the id and keeps the snapshot from the garbage collector (see [`record`]) |
//! | Snapshots/Prepare | the writable layer |
//! | Tasks/Create | shim, cgroup, namespaces, process behind its gate |
//! | Tasks/Wait | answered at the end; sent beside the start, so it costs no time; taken back from what idles (see [`wait`]) |
//! | Tasks/Start | opens the gate |
//! | Tasks/Delete | ends the shim, removes the cgroup |
//! | Containers/Delete, Snapshots/Remove | what the create made |
//!
//! This module knows no driver contract, no HTTP, no command line. Both front doors end at [`Plan`].

mod checks;
mod config;
mod container;
mod create;
mod custody;
mod deps;
mod disk;
mod error;
mod etc;
mod exits;
mod facts;
mod find;
mod fit;
mod host;
mod idle;
mod images;
mod init_layer;
pub(crate) mod label;
mod network;
mod oom;
mod orphans;
mod overdue;
mod owned;
mod pause;
mod pidfd;
mod placement;
mod places;
mod plan;
mod pool;
mod process;
mod prune;
mod pull;
mod reclaim;
mod reconcile;
mod record;
mod remains;
mod resolve;
mod rlimits;
mod rootfs;
mod run;
mod runtime;
mod shim;
mod signal;
mod slot;
mod spec;
mod stats;
mod sweep;
mod task;
mod traffic;
mod undo;
mod unfinished;
mod volumes;
mod wait;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

pub(crate) use self::config::{Config, PoolConfig};
pub(crate) use self::container::Container;
pub(crate) use self::custody::Custody;
use self::deps::Deps;
pub(crate) use self::disk::Unlimited;
use self::error::At as _;
pub(crate) use self::error::{Error, Kind, Result, Step};
use self::exits::Exits;
pub(crate) use self::find::{Seen, State};
pub(crate) use self::images::{Format, ImageError, Removed, Shelf, Shelved};
pub(crate) use self::owned::Owned;
pub use self::plan::Network;
pub(crate) use self::plan::Plan;
pub(crate) use self::process::Outcome;
pub(crate) use self::pull::{LayerProgress, LayerState, Platform, Progress, Pulling};
use self::reclaim::Reclaims;
pub(crate) use self::run::{Run, WeakRun};
pub(crate) use self::runtime::{Runtime, RuntimeFailed};
pub(crate) use self::stats::{Usage, standing};
use crate::cgroup::{self, Ceilings};
pub use crate::cgroup::{CgroupDriver, UnknownDriver};
pub(crate) use crate::cgroup::{DEFAULT_PARENT, OomCount, Turns, Whose, is_slice};
use crate::containerd::Session;
pub(crate) use crate::image::Reference;
use crate::image::{Cache, Image, ImageStore, Pin, Puller};
pub(crate) use crate::sandbox::pool::Bounds;
use crate::sandbox::pool::Pool;
use crate::stdio::Streams;
use crate::{ContainerId, Context};

/// A handle to the engine; clones are the same engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine(Arc<Deps>);

impl Engine {
    /// Connects to containerd and looks at the host, once.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn connect(ctx: &Context, mut config: Config) -> Result<Self> {
        let name = format!("{}", config.address.display());
        let session = Session::connect(ctx, &config.address, &config.namespace)
            .await
            .at(Step::Connect, &name)?;
        let internal = |error: cgroup::Error| Error::new(Step::Connect, &name, Kind::Internal, error);
        let cgroups = cgroup::Root::probe().map_err(internal)?;
        // Limits are inherited from the daemon that starts containers, not from us.
        let daemon = session.server_pid(ctx).await.at(Step::Connect, &name)?;
        // One in another pid namespace cannot be looked at, nor can its shims; ours are the best guess then.
        let (is_visible, visible) = (daemon.is_some(), daemon);
        let daemon = daemon.unwrap_or_else(std::process::id);
        placement::choose_driver(&mut config, daemon).await?;
        session
            .namespaces()
            .create_if_missing(ctx, &config.namespace)
            .await
            .at(Step::Connect, &name)?;
        fit::check(&session, ctx, &config, daemon).await?;
        let ceilings = Ceilings::of_pid(daemon).map_err(internal)?;
        let daemon_oom_score_adj = host::oom_score_adj(daemon);
        let daemon_umask = host::umask(daemon);
        let host_networks = [daemon, std::process::id()]
            .into_iter()
            .filter_map(host::network_of)
            .collect();
        let host = fnctr_oci::Host {
            arch: std::env::consts::ARCH.to_owned(),
            kernel: host::kernel_version(),
            cgroup: host::cgroup_version(&cgroups),
            rootfs: "rootfs".to_owned(),
            sensitive_paths: host::sensitive_paths(),
            user_namespace: host::has_part_of_the_groups(),
        };
        host::make_private(&config.run_dir)
            .map_err(|error| Error::new(Step::Connect, config.run_dir.display(), Kind::Internal, error))?;
        let (tracker, life) = (TaskTracker::new(), Context::new());
        let oom_log = placement::oom_log(&config, &cgroups);
        let exits = Exits::start(session.clone(), life.child(), &tracker);
        if config.reclaim_after.is_some() && !cgroups.controllers().reclaim {
            tracing::warn!(
                "memory of frozen containers is not reclaimed: this needs unified cgroups and Linux 5.19"
            );
        }
        let reclaims = config
            .reclaim_after
            .map(|delay| Reclaims::start(delay, life.child(), &tracker));
        let images = Arc::new(ImageStore::new(
            session.clone(),
            &config.snapshotter,
            &config.run_dir,
        ));
        let puller = Puller::new(
            Arc::clone(&images),
            config.pulls.clone(),
            tracker.clone(),
            life.child(),
        );
        let cache = Cache::start(config.cache.clone(), Arc::clone(&images), &tracker, life.child());
        let pool = config.pool.as_ref().map(|pool| Pool::new(pool.bounds, pool.once));
        let pool_config = config.pool.clone();
        let deps = Arc::new(Deps {
            config,
            session,
            images,
            puller,
            cache,
            sandboxes: OnceCell::new(),
            pool,
            discard_slot: pool::discard_late,
            cgroups,
            ceilings,
            daemon_oom_score_adj,
            daemon_umask,
            daemon: visible,
            shares_pids: is_visible,
            host_networks,
            host,
            exits,
            oom_log,
            snapshotter_root: OnceCell::new(),
            reclaims,
            tracker,
            recovery: TaskTracker::new(),
            _end: life.cancel_on_drop(),
            life,
        });
        reconcile::reconcile(&deps);
        images::end_orphans(&deps, ctx).await;
        unfinished::resume(&deps);
        if is_visible {
            orphans::sweep(&deps);
        }
        if let Some(config) = pool_config {
            pool::start(&deps, config);
        }
        Ok(Self(deps))
    }

    /// The session with containerd, for measuring what its calls cost alone.
    pub(crate) fn session(&self) -> &Session {
        &self.0.session
    }

    /// The image that the plan names, or `None` if it must be pulled first. It stays for as long as the [`Pin`] is held.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn resolve(&self, ctx: &Context, plan: &Plan) -> Result<Option<(Image, Pin)>> {
        resolve::resolve(&self.0, ctx, plan).await
    }

    /// Creates the container up to its start gate. Whatever fails, nothing is left; `streams` is called when they are
    /// needed, so what fails before has not used them up. It is given the context of the creation, which it must not
    /// outlast.
    ///
    /// # Cancellation
    /// Safe to drop: it unwinds on its own task, and so it does when `ctx` is interrupted.
    pub(crate) async fn create<F>(
        &self,
        ctx: &Context,
        plan: Plan,
        image: Image,
        streams: impl FnOnce(Context) -> F + Send + 'static,
    ) -> Result<Owned>
    where
        F: Future<Output = Result<Streams>> + Send + 'static,
    {
        let deps = Arc::clone(&self.0);
        let create =
            move |ctx: Context| async move { create::create(&deps, &ctx, &plan, &image, streams).await };
        self.0.tracked(ctx, create).await
    }

    /// containerd's version.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn server_version(&self, ctx: &Context) -> Result<String> {
        let name = format!("{}", self.0.config.address.display());
        Ok(self
            .0
            .session
            .version()
            .version(ctx)
            .await
            .at(Step::Connect, name)?
            .version)
    }

    /// Every container of ours.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn list(&self, ctx: &Context) -> Result<Vec<Seen>> {
        find::list(&self.0, ctx).await
    }

    /// One container, whoever made it.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn inspect(&self, ctx: &Context, id: &ContainerId) -> Result<Seen> {
        find::inspect(&self.0, ctx, id).await
    }

    /// Takes over a container that an earlier process left.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn adopt(&self, ctx: &Context, id: &ContainerId) -> Result<Container> {
        find::adopt(&self.0, ctx, id).await
    }

    /// The same, with the full name of the image that it was made of.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn adopt_of(&self, ctx: &Context, id: &ContainerId) -> Result<(Container, String)> {
        let record = find::get(&self.0, ctx, id).await?;
        let container = find::adopt_record(&self.0, ctx, &record).await?;
        Ok((container, record.image))
    }

    /// Removes what other instances of the same host left, in the background: the containers with this label and value whose
    /// labels `is_foreign` says so of.
    pub(crate) fn sweep(&self, label: (&str, &str), is_foreign: impl sweep::Foreign) {
        sweep::sweep(&self.0, label, is_foreign);
    }

    /// Waits until the work at the start that undoes what earlier processes left is over, whether it could undo everything
    /// or not. What it could not undo is in the log.
    ///
    /// # Cancellation
    /// Safe to drop: the work goes on.
    pub(crate) async fn recovered(&self, ctx: &Context) -> Result<()> {
        let recovery = &self.0.recovery;
        recovery.close();
        ctx.run(recovery.wait())
            .await
            .at(Step::Find, "what earlier processes left")
    }

    /// The tracker that every background task of the engine belongs to.
    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.0.tracker
    }

    /// Ends the engine's background work. Containers that run go on; what is being undone is waited for.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn close(&self, ctx: &Context) -> Result<()> {
        self.0.life.cancel();
        self.0.tracker.close();
        let done = ctx.run(self.0.tracker.wait()).await;
        done.at(Step::Wait, "the background work of the engine")?;
        placement::remove_empty_parents(&self.0).await;
        Ok(())
    }
}

/// A name that no other call on this host returns.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    format!(
        "{}-{now}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}
