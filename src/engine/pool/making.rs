//! Makes the slots of a pool, and removes them.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::error::{Error, ErrorContext as _, Kind, Result, Step};
use crate::engine::label;
use crate::engine::plan::{Network, Plan};
use crate::engine::slot::{Resident, Slot};
use crate::engine::{Deps, PoolConfig, adopt, create, host, network, pidfd, resolve};
use crate::image::{Again, Image, Pin, Request};
use crate::sandbox::{NetworkRequest, Sandbox, Sandboxes};
use crate::stdio::Streams;
use crate::{ContainerId, Context};

/// How long one slot may take to make, or to remove.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn make(deps: &Arc<Deps>, config: &PoolConfig) -> Result<Slot> {
    let name = "the pool";
    let ctx = deps.background.life.with_timeout(PATIENCE);
    let refused = |error| network::refused(name, error);
    let sandboxes = deps.sandboxes().await.map_err(refused)?;
    let wanted = NetworkRequest {
        networks: config.networks.clone(),
        ports: Vec::new(),
    };
    let reserved = sandboxes.reserve(&wanted).map_err(refused)?;
    let id = reserved.id().to_owned();
    let made = async {
        let sandbox = sandboxes.attach(&ctx, reserved, None).await.map_err(refused)?;
        let resident = match &config.holder {
            Some(plan) => Some(hold(deps, &ctx, plan, &sandbox).await?),
            None => None,
        };
        Ok(Slot {
            sandbox,
            resident,
            uses: 0,
        })
    };
    let made = made.await;
    if made.is_err() {
        let clean_up = Context::timeout(deps.config.close_grace);
        if let Err(error) = sandboxes.remove(&clean_up, &id).await {
            tracing::warn!(sandbox = id, error = %crate::chain(&error), "the pool could not remove a part of a slot");
        }
    }
    made
}

/// Starts the container that lives in a slot, and leaves it running. Its image is pulled if needed.
async fn hold(deps: &Arc<Deps>, ctx: &Context, plan: &Plan, sandbox: &Sandbox) -> Result<Resident> {
    let mut plan = plan.clone();
    plan.id = ContainerId::new(format!("pool-{}", sandbox.id))
        .map_err(|error| Error::new(Step::Network, &sandbox.id, Kind::Internal, error))?;
    plan.network = Network::Path(sandbox.path.clone());
    plan.labels.insert(label::HOLDER.to_owned(), sandbox.id.clone());
    let (image, _pin) = image(deps, ctx, &plan).await?;
    let streams = |_| std::future::ready(Ok(Streams::default()));
    let (owned, run) = create::create_all(deps, ctx, &plan, &image, streams).await?;
    let held = async {
        run.start_here(ctx).await?;
        let process = run.pid().and_then(pidfd::open_once);
        process.ok_or_else(|| {
            Error::new(
                Step::Start,
                &plan.id,
                Kind::Internal,
                "it ended at once, or the kernel has no pidfds",
            )
        })
    };
    match held.await {
        Ok(process) => {
            let pids = run.pid().and_then(host::pids_of);
            owned.leave().await;
            Ok(Resident {
                id: plan.id,
                process,
                pids,
            })
        }
        Err(error) => {
            if let Err(left) = owned.container().remove().await {
                tracing::warn!(error = %crate::chain(&left), "the pool could not remove a part of a slot");
            }
            Err(error)
        }
    }
}

async fn image(deps: &Arc<Deps>, ctx: &Context, plan: &Plan) -> Result<(Image, Pin)> {
    if let Some(found) = resolve::resolve(deps, ctx, plan).await? {
        return Ok(found);
    }
    let request = Request {
        reference: plan.image.clone(),
        platform: None,
        credential: None,
    };
    let hold = deps.images.cache.hold(ctx, &plan.image).await;
    let hold = hold.at(Step::Image, &plan.id)?;
    // The pool tries again by itself.
    let never: Again = Box::new(|_| None);
    let pulled = deps.images.puller.pull(request, never).done(ctx).await;
    let image = pulled.at(Step::Image, &plan.id)?;
    deps.images.cache.changed();
    let pin = hold.pin(ctx, &image).await.at(Step::Image, &plan.id)?;
    Ok((image, pin))
}

/// Removes a slot, its resident first. Returns the slot if it cannot be removed.
pub(super) async fn discard(deps: &Arc<Deps>, slot: Slot) -> Result<(), Slot> {
    let ctx = Context::timeout(PATIENCE);
    if let Some(Resident { id, .. }) = &slot.resident {
        let removed = async { adopt::adopt(deps, &ctx, id).await?.remove().await };
        match removed.await {
            // Without the slot, the resident would be forgotten.
            Err(error) if error.kind() != Kind::NotFound => {
                tracing::warn!(error = %crate::chain(&error), "cannot remove the container of a slot of the pool");
                return Err(slot);
            }
            _ => {}
        }
    }
    let removed = match deps.sandboxes().await {
        Ok(sandboxes) => sandboxes.remove(&ctx, &slot.sandbox.id).await,
        Err(error) => Err(error),
    };
    match removed {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::warn!(sandbox = slot.sandbox.id, error = %crate::chain(&error), "cannot remove a slot of the pool");
            Err(slot)
        }
    }
}

/// [`discard`] for a slot that comes back after the pool has ended: a slot that cannot be removed is not tried again.
pub(in crate::engine) fn discard_late(
    deps: Arc<Deps>,
    slot: Slot,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { drop(discard(&deps, slot).await) })
}

/// Removes a sandbox in which no container lives.
pub(super) async fn remove(sandboxes: &Sandboxes, id: &str) {
    let ctx = Context::timeout(PATIENCE);
    if let Err(error) = sandboxes.remove(&ctx, id).await {
        tracing::warn!(sandbox = id, error = %crate::chain(&error), "the pool could not remove a part of a slot");
    }
}
