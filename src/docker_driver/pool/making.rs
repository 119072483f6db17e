//! Makes the slots of a pool: a container is created, started, and watched for as long as it lives.

use std::time::Duration;

use super::{Means, Settings};
use crate::docker_driver::daemon::Failed;
use crate::docker_driver::error;
use crate::docker_driver::removal::insist;
use crate::docker_driver::slot::Slot;
use crate::driver::Error;
use crate::ids::unique;
use crate::{ContainerName, Context};

/// How long the engine may take to tell whether it has the image of a slot.
const LOOK: Duration = Duration::from_secs(60);
/// How long the removal of a slot may take before it is put off.
const REMOVAL: Duration = Duration::from_secs(30);
/// How long the removal of what a failed attempt has left may take.
const UNDO: Duration = Duration::from_secs(10);
/// The label of a slot's container. Its value names the start of the driver that has made it.
pub(in crate::docker_driver) const HOLDER: &str = "fn-agent-prefork";

/// Makes a slot on this network; `None` is the default.
pub(super) async fn make(
    means: &Means,
    settings: &Settings,
    network: Option<&str>,
    life: &Context,
) -> Result<Slot, Error> {
    have_image(means, settings, life).await?;
    life.check()?;
    let name = ContainerName::new(format!("prefork_{}", unique()))?;
    let mut body = settings.holder.options.body.clone();
    let host = body.host_config.get_or_insert_default();
    host.network_mode = network.map(str::to_owned);
    let id = match means.daemon.create(&name, body).await {
        Ok(id) => id,
        Err(failed) => {
            // The name is this slot's alone, so what may have been created can be found by it.
            if failed.is_unknown() {
                give_up(means, name.as_str()).await;
            }
            return Err(error::not_created(failed));
        }
    };
    if let Err(failed) = means.daemon.start(&id).await {
        give_up(means, &id).await;
        return Err(error::not_started(failed, None));
    }
    Ok(Slot::new(id, network.map(str::to_owned)))
}

/// Pulls the image of the slots if it is not here, however long that takes: a pull that is given up begins anew.
async fn have_image(means: &Means, settings: &Settings, life: &Context) -> Result<(), Error> {
    let image = settings.image();
    let ctx = life.with_timeout(LOOK);
    let found = means.daemon.image(&ctx, image.as_given()).await;
    if found.map_err(error::translate)?.is_none() {
        means.puller.pull(life, image, None).await?;
        means.images.changed();
    }
    Ok(())
}

/// Removes what a slot that was not made has left.
async fn give_up(means: &Means, container: &str) {
    if let Err(failed) = insist(&means.daemon, container, UNDO).await {
        tracing::warn!(error = %crate::chain(&failed), "the pool could not remove a part of a slot");
    }
}

/// Waits for the end of a slot's container, for as long as the engine tells it.
pub(super) async fn watch(means: &Means, slot: &Slot) -> Result<(), Failed> {
    match means.daemon.wait(slot.id()).await {
        Ok(_) => Ok(()),
        Err(failed) if failed.is_missing() => Ok(()),
        Err(failed) => Err(failed),
    }
}

/// Removes a slot. Returns it if it cannot be removed.
pub(super) async fn discard(means: &Means, slot: Slot) -> Result<(), Slot> {
    match insist(&means.daemon, slot.id(), REMOVAL).await {
        Ok(()) => Ok(()),
        Err(failed) => {
            tracing::warn!(error = %crate::chain(&failed), "cannot remove the container of a slot of the pool");
            Err(slot)
        }
    }
}
