//! The network that a container joins: chosen before any part of it is made, given back when its process is gone.
//!
//! A network that is only a word of the spec ("none", "host") costs nothing here. A sandbox is reserved before the
//! checks, so that the spec can contain its path and the record its name. The reservation is only a name (or a slot of
//! the pool, which goes back untouched); the sandbox is made after the record.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fnctr_oci::NetworkMode;

use super::error::{Error, ErrorContext as _, Judged as _, Kind, Result, Step};
use super::label;
use super::plan::{Network, Plan};
use super::slot::{self, Slot};
use super::traffic::Traffic;
use super::{Deps, record};
use crate::containerd::{Record, TaskStatus};
use crate::pool::{Lease, Pool};
use crate::sandbox::{self, Address, Dns, MadeFor, NetworkRequest, Reserved, Sandboxes};
use crate::teardown::{StepError, Teardown};
use crate::{ContainerId, Context};

/// The undo step that gives a network back. Its sandbox is never that of a later container of the same name, so the
/// step runs even if there is such a container.
pub(super) const STEP: &str = "network";

/// A network that is chosen, and not made yet.
#[derive(Debug)]
pub(super) struct Joining {
    mode: NetworkMode,
    source: NetworkSource,
    target: Option<Target>,
}

#[derive(Debug)]
enum NetworkSource {
    /// Nothing to make: a word of the spec, or a namespace that another party manages.
    Existing,
    /// A slot of the pool.
    Slot(Lease<Slot>),
    /// A new sandbox.
    New(Reserved),
    /// A pin on a namespace that has none.
    Pin { id: String, namespace: File },
}

/// The container whose network is to be shared.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) id: ContainerId,
    pub(super) hostname: Option<String>,
}

/// A network that was joined, as far as the rest of the create needs it.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// Its addresses and name servers, if this engine attached it.
    pub(super) attached: Option<(Vec<Address>, Dns)>,
    /// Whether another container had it before: then its counters do not begin at zero.
    pub(super) is_used: bool,
    pub(super) target: Option<Target>,
}

/// The facts about its network that a run keeps.
#[derive(Debug, Default)]
pub(super) struct NetworkHistory {
    /// The container whose network it shares, if it shares one.
    pub(super) of: Option<ContainerId>,
    /// The traffic that was counted before this container had the network.
    pub(super) counted: Option<Traffic>,
}

impl Joining {
    /// The network mode for the spec.
    pub(super) fn mode(&self) -> &NetworkMode {
        &self.mode
    }

    pub(super) fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// The sandbox that is removed with the container. The record, which is made before it, has its name as a label.
    pub(super) fn sandbox(&self) -> Option<&str> {
        match &self.source {
            NetworkSource::Existing => None,
            NetworkSource::Slot(lease) => lease.slot().map(|slot| slot.sandbox.id.as_str()),
            NetworkSource::New(reserved) => Some(reserved.id()),
            NetworkSource::Pin { id, .. } => Some(id),
        }
    }
}

impl Joining {
    /// In place of a network that does not exist yet: the start chooses it again.
    pub(super) fn not_there_yet() -> Self {
        Self {
            mode: joins(Path::new("/proc/self/ns/net")),
            source: NetworkSource::Existing,
            target: None,
        }
    }
}

fn joins(path: &Path) -> NetworkMode {
    NetworkMode::Join(path.to_owned())
}

/// Chooses the network. Nothing is made yet.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn reserve(deps: &Deps, ctx: &Context, plan: &Plan) -> Result<Joining> {
    let there = |mode| Joining {
        mode,
        source: NetworkSource::Existing,
        target: None,
    };
    match &plan.network {
        Network::None => Ok(there(NetworkMode::None)),
        Network::Host => Ok(there(NetworkMode::Host)),
        Network::Path(path) => Ok(there(joins(path))),
        Network::Attached {
            networks,
            ports,
            pooled,
        } => {
            if *pooled
                && ports.is_empty()
                && !plan.may_change_its_network()
                && let Some(lease) = deps.networks.pool.as_ref().and_then(slot::take)
            {
                let path = lease
                    .slot()
                    .map(|slot| slot.sandbox.path.clone())
                    .unwrap_or_default();
                return Ok(Joining {
                    mode: joins(&path),
                    source: NetworkSource::Slot(lease),
                    target: None,
                });
            }
            let wanted = NetworkRequest {
                networks: networks.clone(),
                ports: ports.clone(),
            };
            let sandboxes = sandboxes(deps, &plan.id).await?;
            let reserved = sandboxes
                .reserve(&wanted)
                .map_err(|error| refused(&plan.id, error))?;
            Ok(Joining {
                mode: joins(reserved.path()),
                source: NetworkSource::New(reserved),
                target: None,
            })
        }
        Network::Of(id) => of_container(deps, ctx, plan, id).await,
    }
}

pub(super) async fn sandboxes(deps: &Deps, id: &ContainerId) -> Result<Sandboxes> {
    deps.sandboxes().await.map_err(|error| refused(id, error))
}

/// Why a container cannot have the network of another one.
#[derive(Debug, thiserror::Error)]
enum NoTarget {
    #[error("cannot share the network of container {0}: there is no such container")]
    Missing(ContainerId),
    #[error("cannot share the network of container {0}: it is not running")]
    Stopped(ContainerId),
    #[error("a container cannot share its own network")]
    Itself,
    #[error("the network of container {id} cannot be opened")]
    Unreadable {
        id: ContainerId,
        #[source]
        source: std::io::Error,
    },
}

async fn of_container(deps: &Deps, ctx: &Context, plan: &Plan, id: &ContainerId) -> Result<Joining> {
    let refuse = |kind, why: NoTarget| Error::new(Step::Network, &plan.id, kind, why);
    if *id == plan.id {
        return Err(refuse(Kind::InvalidPlan, NoTarget::Itself));
    }
    let record = match deps.session.containers().get(ctx, id).await {
        Err(error) if error.is_not_found() => {
            return Err(refuse(Kind::NotFound, NoTarget::Missing(id.clone())));
        }
        record => record.at(Step::Network, &plan.id)?,
    };
    let pid = running(deps, ctx, &plan.id, id).await?;
    let namespace = File::open(format!("/proc/{pid}/ns/net"));
    // The pid may belong to another process by now. If the container still has it, the opened namespace is its own.
    if running(deps, ctx, &plan.id, id).await? != pid {
        return Err(refuse(Kind::NotFound, NoTarget::Stopped(id.clone())));
    }
    let namespace = namespace.map_err(|source| {
        let id = id.clone();
        refuse(Kind::Internal, NoTarget::Unreadable { id, source })
    })?;
    // Whoever's it is: the target may have joined a slot itself.
    let is_reused = deps.networks.pool.as_ref().is_some_and(Pool::is_reused);
    if is_reused
        && plan.may_change_its_network()
        && let Some(numbers) = super::host::namespace_of(&namespace)
    {
        deps.networks.spoiled.add(numbers);
    }
    let target = Target {
        id: id.clone(),
        hostname: record::hostname_of(&record),
    };
    let on_host = super::host::namespace_of(&namespace).is_some_and(|own| deps.host.networks.contains(&own));
    let (mode, source) = if on_host {
        (NetworkMode::Host, NetworkSource::Existing)
    } else {
        let sandboxes = sandboxes(deps, &plan.id).await?;
        match sandbox_of(&record).and_then(|sandbox| sandboxes.pinned(sandbox)) {
            Some(path) => (joins(&path), NetworkSource::Existing),
            None => {
                let (id, path) = sandboxes.reserve_pin();
                (joins(&path), NetworkSource::Pin { id, namespace })
            }
        }
    };
    Ok(Joining {
        mode,
        source,
        target: Some(target),
    })
}

/// The pid of a container that runs, frozen or not.
async fn running(deps: &Deps, ctx: &Context, of: &ContainerId, id: &ContainerId) -> Result<u32> {
    let stopped = || Error::new(Step::Network, of, Kind::NotFound, NoTarget::Stopped(id.clone()));
    match deps.session.tasks().get(ctx, id).await {
        Ok(task) if matches!(task.status, TaskStatus::Running | TaskStatus::Paused) && task.pid != 0 => {
            Ok(task.pid)
        }
        Ok(_) => Err(stopped()),
        Err(error) if error.is_not_found() => Err(stopped()),
        Err(error) => Err(error).at(Step::Network, of),
    }
}

/// Checks, right before the start, that the container whose network is shared still runs.
pub(super) async fn still_there(
    deps: &Deps,
    ctx: &Context,
    of: &ContainerId,
    target: &ContainerId,
) -> Result<()> {
    running(deps, ctx, of, target).await.map(drop)
}

/// Makes the chosen network, and puts the step that gives it back on the list.
pub(super) async fn join(
    deps: &Arc<Deps>,
    ctx: &Context,
    plan: &Plan,
    joining: Joining,
    undo: &mut Teardown,
) -> Result<Joined> {
    let Joining { source, target, .. } = joining;
    let refused = |error| refused(&plan.id, error);
    let mut joined = Joined {
        target,
        ..Joined::default()
    };
    match source {
        NetworkSource::Existing => {}
        NetworkSource::Slot(mut lease) => {
            lease.touch();
            if let Some(slot) = lease.slot() {
                joined.attached = Some((slot.sandbox.addresses.clone(), slot.sandbox.dns.clone()));
                joined.is_used = slot.uses > 0;
            }
            let (deps, mut lease) = (Arc::clone(deps), Some(lease));
            undo.defer(STEP, move |_| {
                let given = lease.take().map(|lease| give_back(Arc::clone(&deps), lease));
                async move {
                    if let Some(giving) = given {
                        giving.await;
                    }
                    Ok::<_, sandbox::Error>(())
                }
            });
        }
        NetworkSource::New(reserved) => {
            let sandboxes = sandboxes(deps, &plan.id).await?;
            defer_removal(undo, &sandboxes, reserved.id());
            let made = sandboxes
                .attach(ctx, reserved, Some(plan.id.as_str()))
                .await
                .map_err(refused)?;
            joined.attached = Some((made.addresses, made.dns));
        }
        NetworkSource::Pin { id, namespace } => {
            let sandboxes = sandboxes(deps, &plan.id).await?;
            defer_removal(undo, &sandboxes, &id);
            sandboxes
                .pin_open(&id, namespace, plan.id.as_str())
                .await
                .map_err(refused)?;
        }
    }
    Ok(joined)
}

/// Gives a slot of the pool back.
async fn give_back(deps: Arc<Deps>, lease: Lease<Slot>) {
    if let Some(slot) = lease.give_back() {
        let discard = deps.networks.discard_slot;
        discard(deps, slot).await;
    }
}

/// Puts the removal of a sandbox on the list.
fn defer_removal(undo: &mut Teardown, sandboxes: &Sandboxes, id: &str) {
    let (sandboxes, id) = (sandboxes.clone(), id.to_owned());
    undo.defer(STEP, move |ctx| {
        let (sandboxes, id) = (sandboxes.clone(), id.clone());
        async move { sandboxes.remove(&ctx, &id).await.map(drop) }
    });
}

/// Like [`defer_removal`], for a sandbox that is known only from the container's record.
pub(super) fn defer_removal_of(undo: &mut Teardown, deps: &Arc<Deps>, record: &Record) {
    let Some(id) = sandbox_of(record) else { return };
    let (deps, id, of) = (Arc::clone(deps), id.to_owned(), record.id.clone());
    undo.defer(STEP, move |ctx| {
        let (deps, id, of) = (Arc::clone(&deps), id.clone(), of.clone());
        async move { release(&deps, &ctx, &of, &id).await }
    });
}

/// Removes the sandbox of a container that an earlier process made. A sandbox of a pool stays while the process of the
/// pool runs and manages it, or while another container has it.
async fn release(deps: &Arc<Deps>, ctx: &Context, of: &ContainerId, id: &str) -> Result<(), StepError> {
    let sandboxes = deps.sandboxes().await?;
    match sandboxes.made_for(id).await? {
        MadeFor::LivePool => return Ok(()),
        MadeFor::Pool => {
            let filter = format!("labels.{:?}=={id:?}", label::SANDBOX);
            for other in deps.session.containers().list(ctx, &[filter]).await? {
                let lives = other.id != *of && deps.session.tasks().get(ctx, &other.id).await.is_ok();
                if lives {
                    return Ok(());
                }
            }
        }
        MadeFor::Container => {}
    }
    sandboxes.remove(ctx, id).await?;
    Ok(())
}

/// The name of a container's own sandbox.
pub(super) fn sandbox_of(record: &Record) -> Option<&str> {
    record.labels.get(label::SANDBOX).map(String::as_str)
}

/// The error of a container whose sandbox failed.
pub(super) fn refused(id: impl std::fmt::Display, error: sandbox::Error) -> Error {
    Error::new(Step::Network, id, error.kind(), error)
}

impl Deps {
    /// Access to the sandboxes, opened at the first use: a host without networks needs no place for them.
    pub(super) async fn sandboxes(&self) -> Result<Sandboxes, sandbox::Error> {
        let open = || async {
            let (settings, run_dir) = (self.config.networks.clone(), self.config.run_dir.clone());
            let scope = format!("{}\n{}", self.config.address.display(), self.config.namespace);
            let opened = tokio::task::spawn_blocking(move || {
                let token = crate::ids::unique();
                Sandboxes::open(&settings, &run_dir, &scope, &token)
            });
            opened
                .await
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        };
        self.networks.sandboxes.get_or_try_init(open).await.cloned()
    }

    /// The directory in which attachments are recorded. There is something to reconcile only if it exists.
    pub(super) fn sandbox_journal(&self) -> &PathBuf {
        &self.config.networks.state_dir
    }
}
