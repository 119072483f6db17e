//! Connects an engine to containerd, and starts its background work.

use std::sync::{Arc, OnceLock};

use tokio::sync::{OnceCell, Semaphore};

use super::config::Role;
use super::deps::{Background, Deps, Engine, Images, Networks};
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::exits::Exits;
use super::first_records::FirstRecords;
use super::host::{self, HostFacts};
use super::name_index::NameIndex;
use super::reclaim::Reclaims;
use super::slot::Spoiled;
use super::{
    Config, abandoned, events, files, fit, images, orphans, placement, pool, reconcile, server_lock,
    stray_networks, unfinished,
};
use crate::Context;
use crate::cgroup::{self, Root};
use crate::containerd::Session;
use crate::events::{Action, Event, Kind as EventKind};
use crate::image::{
    AbandonedLeases, Cache, Error as ImageError, ImageStore, OnEnd, Puller, remove_left_views,
};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::stdio::LogFiles;

impl Engine {
    /// Connects to containerd, and reads the facts about the host once.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn connect(ctx: &Context, mut config: Config) -> Result<Self> {
        let name = format!("{}", config.address.display());
        let session = Session::connect(ctx, &config.address, &config.namespace)
            .await
            .at(Step::Connect, &name)?;
        let internal = |error: cgroup::Error| Error::new(Step::Connect, &name, Kind::Internal, error);
        let cgroups = Root::probe().map_err(internal)?;
        let visible = session.first_server();
        let daemon = visible.unwrap_or_else(std::process::id);
        placement::choose_driver(&mut config, daemon).await?;
        let store = ImageStore::new(session.clone(), &config.snapshotter, &config.run_dir);
        let store = match config.role {
            Role::Command | Role::List => store.remembering(),
            Role::Server | Role::Observer => store,
        };
        // At once: no call needs the answer of another.
        let namespaces = session.namespaces();
        let (made, fits, orphans) = tokio::join!(
            namespaces.create_if_missing(ctx, &config.namespace),
            fit::check(&session, ctx, &config, daemon),
            store.orphans(ctx, config.pulls.kept()),
        );
        made.at(Step::Connect, &name)?;
        fits?;
        let host = HostFacts::read(cgroups, visible).map_err(internal)?;
        host::make_private(&config.run_dir)
            .map_err(|error| Error::new(Step::Connect, config.run_dir.display(), Kind::Internal, error))?;
        let deps = Arc::new(deps(config, session, store, host));
        begin(&deps, ctx, orphans).await;
        Ok(Self(deps))
    }

    /// The metrics of this engine, in the text format of Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let metrics = self.counters();
        if let Some(pool) = &self.0.networks.pool {
            metrics.set_pool(pool.counts());
        }
        if let Some(images) = self.0.images.cache.levels() {
            metrics.set_images(images);
        }
        metrics.text()
    }

    /// The counters of this engine, to which its users may add.
    pub(crate) fn counters(&self) -> &Arc<Metrics> {
        self.0.session.metrics()
    }

    /// Whether systemd makes the containers' cgroups.
    pub(crate) fn has_systemd_cgroups(&self) -> bool {
        self.0.config.runtime.systemd_cgroup
    }

    /// The session with containerd, for measurements of the calls alone.
    pub(crate) fn session(&self) -> &Session {
        &self.0.session
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
}

fn deps(config: Config, session: Session, store: ImageStore, host: HostFacts) -> Deps {
    let background = Background::new();
    let (tracker, life) = (&background.tracker, &background.life);
    if config.reclaim_after.is_some() && !host.controllers.reclaim {
        tracing::warn!(
            "memory of frozen containers is not reclaimed: this needs unified cgroups and Linux 5.19"
        );
    }
    let reclaims = config.reclaim_after;
    let store = Arc::new(store);
    let events = Arc::new(events::event_log(&config.run_dir, &config.namespace));
    let (pulled, metrics) = (Arc::clone(&events), Arc::clone(session.metrics()));
    let puller = Puller::new(
        Arc::clone(&store),
        config.pulls.clone(),
        tracker.clone(),
        life.child(),
        OnEnd::new(move |image, took, is_pulled| {
            metrics.phase("pull", if is_pulled { "ok" } else { "failed" }, took);
            let event = || Event::new(EventKind::Image, Action::Pull, image.to_string());
            if is_pulled && !pulled.record(event()) {
                metrics.lost_event();
            }
        }),
    );
    Deps {
        events,
        first: Arc::default(),
        oom_log: placement::oom_log(&config, &host.cgroups),
        logs: LogFiles::default(),
        exits: Exits::start(session.clone(), life.child(), tracker),
        names: NameIndex::new(&config.run_dir.join(config.namespace.as_str())),
        copies: Arc::new(Semaphore::new(files::COPIES)),
        reclaims: reclaims.map(|delay| Reclaims::start(delay, life.child(), tracker)),
        images: Images {
            cache: Cache::start(config.cache.clone(), Arc::clone(&store), tracker, life.child()),
            store,
            puller,
        },
        networks: Networks {
            sandboxes: OnceCell::new(),
            pool: config.pool.as_ref().map(|pool| Pool::new(pool.bounds, pool.once)),
            spoiled: Spoiled::default(),
            discard_slot: pool::discard_late,
        },
        snapshotter_root: OnceCell::new(),
        bundles_dir: OnceLock::new(),
        config,
        session,
        host,
        background,
    }
}

/// Starts the background work: undoing what earlier processes left, and filling the pool.
async fn begin(deps: &Arc<Deps>, ctx: &Context, leases: Result<AbandonedLeases, ImageError>) {
    if deps.config.role == Role::Observer {
        return;
    }
    if deps.host.shares_pids {
        remove_left_views(&deps.config.run_dir);
    }
    stray_networks::sweep(deps);
    images::end_orphans(deps, ctx, leases).await;
    unfinished::resume(deps);
    let first = match deps.config.role {
        Role::List => FirstRecords::shared(deps),
        // Dropped after the start.
        Role::Server | Role::Command | Role::Observer => FirstRecords::default(),
    };
    // A server looks for remains, too; a command would read every record to find that none is left.
    let has_server = deps.config.role != Role::Server && server_lock::is_served(deps);
    if deps.host.shares_pids && !has_server {
        orphans::sweep(deps, &first);
    }
    match deps.config.role {
        Role::Server => reconcile::keep_looking(deps),
        Role::Command | Role::List | Role::Observer => abandoned::look_after(deps, &first),
    }
    if let Some(config) = deps.config.pool.clone() {
        pool::start(deps, config);
    }
}
