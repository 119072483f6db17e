//! The network that a container joins: decided before anything of the container is made, given back when its process is gone.
//!
//! Only a plan that asks for more than a word of the spec ("none", "host") costs anything here. A sandbox is reserved before the
//! checks, which is a name and no more (or a slot of the pool, which goes back untouched), so that the spec can say where it
//! will be, and the record whose it is; it is made after the record.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fnctr_oci::NetworkMode;

use super::error::{At as _, Error, Judged as _, Kind, Result, Step};
use super::label;
use super::plan::{Network, Plan};
use super::slot::{self, Slot};
use super::traffic::Traffic;
use super::{Deps, record};
use crate::containerd::{Record, TaskStatus};
use crate::sandbox::pool::Lease;
use crate::sandbox::{self, Address, Dns, MadeFor, Reserved, Sandboxes, Wanted};
use crate::teardown::{StepError, Teardown};
use crate::{ContainerId, Context};

/// What gives a network back, on the list of what is undone. No other container can have it by name, so it is done even where
/// the container itself has become somebody else's.
pub(super) const STEP: &str = "network";

/// A network that is decided, and not made yet.
#[derive(Debug)]
pub(super) struct Joining {
    mode: NetworkMode,
    how: How,
    target: Option<Target>,
}

#[derive(Debug)]
enum How {
    /// A word of the spec, or a namespace that somebody else looks after.
    There,
    /// One of the pool's.
    Slot(Lease<Slot>),
    /// A new one.
    New(Reserved),
    /// A pin on a namespace that has none.
    Pin { id: String, namespace: File },
}

/// The container whose network it is to be.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) id: ContainerId,
    pub(super) hostname: Option<String>,
}

/// A network that is there, as far as the rest of the container needs to know.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// What it was attached to, if it was by us.
    pub(super) attached: Option<(Vec<Address>, Dns)>,
    /// Somebody had it before, and its counters count from then.
    pub(super) is_used: bool,
    pub(super) target: Option<Target>,
}

/// What a container must remember of its network.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// The container whose it is, if it is another's.
    pub(super) of: Option<ContainerId>,
    /// What it had counted before this container had it.
    pub(super) counted: Option<Traffic>,
}

impl Joining {
    /// What the spec says.
    pub(super) fn mode(&self) -> &NetworkMode {
        &self.mode
    }

    pub(super) fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// The sandbox that goes when the container goes. Its name is a label of the record, which is there before it.
    pub(super) fn sandbox(&self) -> Option<&str> {
        match &self.how {
            How::There => None,
            How::Slot(lease) => lease.slot().map(|slot| slot.sandbox.id.as_str()),
            How::New(reserved) => Some(reserved.id()),
            How::Pin { id, .. } => Some(id),
        }
    }
}

fn joins(path: &Path) -> NetworkMode {
    NetworkMode::Join(path.to_owned())
}

/// Decides. Nothing is made yet.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn reserve(deps: &Deps, ctx: &Context, plan: &Plan) -> Result<Joining> {
    let there = |mode| Joining {
        mode,
        how: How::There,
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
            // The runtime writes them into the namespace, where the slot's next user would find them.
            let sets_parameters = plan.config.sysctls.keys().any(|name| name.starts_with("net"));
            if *pooled
                && ports.is_empty()
                && !sets_parameters
                && let Some(lease) = deps.networks.pool.as_ref().and_then(slot::take)
            {
                let path = lease
                    .slot()
                    .map(|slot| slot.sandbox.path.clone())
                    .unwrap_or_default();
                return Ok(Joining {
                    mode: joins(&path),
                    how: How::Slot(lease),
                    target: None,
                });
            }
            let wanted = Wanted {
                networks: networks.clone(),
                ports: ports.clone(),
            };
            let sandboxes = sandboxes(deps, &plan.id).await?;
            let reserved = sandboxes
                .reserve(&wanted)
                .map_err(|error| refused(&plan.id, error))?;
            Ok(Joining {
                mode: joins(reserved.path()),
                how: How::New(reserved),
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
    // A number that was freed meanwhile may be another process's by now; what was opened before this answer is its own.
    if running(deps, ctx, &plan.id, id).await? != pid {
        return Err(refuse(Kind::NotFound, NoTarget::Stopped(id.clone())));
    }
    let namespace = namespace.map_err(|source| {
        let id = id.clone();
        refuse(Kind::Internal, NoTarget::Unreadable { id, source })
    })?;
    let target = Target {
        id: id.clone(),
        hostname: record::hostname_of(&record),
    };
    let on_host = super::host::namespace_of(&namespace).is_some_and(|own| deps.host.networks.contains(&own));
    let (mode, how) = if on_host {
        (NetworkMode::Host, How::There)
    } else {
        let sandboxes = sandboxes(deps, &plan.id).await?;
        match sandbox_of(&record).and_then(|sandbox| sandboxes.pinned(sandbox)) {
            Some(path) => (joins(&path), How::There),
            None => {
                let (id, path) = sandboxes.reserve_pin();
                (joins(&path), How::Pin { id, namespace })
            }
        }
    };
    Ok(Joining {
        mode,
        how,
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

/// The last look before the start: a network whose owner has gone is no network.
pub(super) async fn still_there(
    deps: &Deps,
    ctx: &Context,
    of: &ContainerId,
    target: &ContainerId,
) -> Result<()> {
    running(deps, ctx, of, target).await.map(drop)
}

/// Makes what was decided; the list gets what gives it back.
pub(super) async fn join(
    deps: &Arc<Deps>,
    ctx: &Context,
    plan: &Plan,
    joining: Joining,
    undo: &mut Teardown,
) -> Result<Joined> {
    let Joining { how, target, .. } = joining;
    let refused = |error| refused(&plan.id, error);
    let mut joined = Joined {
        target,
        ..Joined::default()
    };
    match how {
        How::There => {}
        How::Slot(mut lease) => {
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
        How::New(reserved) => {
            let sandboxes = sandboxes(deps, &plan.id).await?;
            defer_removal(undo, &sandboxes, reserved.id());
            let made = sandboxes
                .attach(ctx, reserved, Some(plan.id.as_str()))
                .await
                .map_err(refused)?;
            joined.attached = Some((made.addresses, made.dns));
        }
        How::Pin { id, namespace } => {
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

/// The same for a sandbox of which only the record tells.
pub(super) fn defer_removal_of(undo: &mut Teardown, deps: &Arc<Deps>, record: &Record) {
    let Some(id) = sandbox_of(record) else { return };
    let (deps, id, of) = (Arc::clone(deps), id.to_owned(), record.id.clone());
    undo.defer(STEP, move |ctx| {
        let (deps, id, of) = (Arc::clone(&deps), id.clone(), of.clone());
        async move { release(&deps, &ctx, &of, &id).await }
    });
}

/// Removes the sandbox of a container that an earlier process made. One of a pool is not removed while its pool's process
/// lives, which looks after it, or while another container has it by now.
async fn release(deps: &Arc<Deps>, ctx: &Context, of: &ContainerId, id: &str) -> Result<(), StepError> {
    let sandboxes = deps.sandboxes().await?;
    match sandboxes.made_for(id).await? {
        MadeFor::PoolOfTheLiving => return Ok(()),
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

/// The sandbox that a container has of its own.
pub(super) fn sandbox_of(record: &Record) -> Option<&str> {
    record.labels.get(label::SANDBOX).map(String::as_str)
}

/// What a sandbox error means for the container.
pub(super) fn refused(id: impl std::fmt::Display, error: sandbox::Error) -> Error {
    Error::new(Step::Network, id, error.kind(), error)
}

impl super::Engine {
    /// The sandboxes of this containerd namespace, for a person to look at; none where there never was one.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn sandboxes(&self) -> Vec<sandbox::Listed> {
        if !self.0.sandbox_journal().is_dir() {
            return Vec::new();
        }
        let listed = match self.0.sandboxes().await {
            Ok(sandboxes) => sandboxes.list(),
            Err(error) => Err(error),
        };
        listed.unwrap_or_else(|error| {
            tracing::warn!(error = %crate::chain(&error), "cannot list the networks");
            Vec::new()
        })
    }
}

impl Deps {
    /// What makes sandboxes; opened when it is first needed, because a host without networks needs no place for them.
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

    /// Where it is remembered what is attached: there is something to be reconciled only if it exists.
    pub(super) fn sandbox_journal(&self) -> &PathBuf {
        &self.config.networks.state_dir
    }
}
