//! Carries out the policy: lists the images, and removes those that the policy chooses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::Context;
use crate::docker_driver::daemon::{Failed, Stored};
use crate::docker_driver::image_name::ImageName;

/// Notifications that arrive within this time are handled together.
const SETTLE: Duration = Duration::from_millis(100);
/// How often the images are listed without a notification, because other clients of the engine add images, too.
const LOOK: Duration = Duration::from_secs(60);
/// How long one round with its removals may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Keeps the images within their limit until `life` ends.
pub(super) async fn run(shared: Arc<Shared>, life: Context) {
    loop {
        let round = life.with_timeout(PATIENCE);
        if let Err(failed) = clean(&shared, &round).await {
            let error = crate::chain(&failed);
            tracing::warn!(
                error,
                "cannot check the size of the images; trying again in a minute"
            );
        }
        let told = async {
            drop(tokio::time::timeout(LOOK, shared.wake.notified()).await);
            tokio::time::sleep(SETTLE).await;
        };
        if life.run(told).await.is_err() {
            return;
        }
    }
}

async fn clean(shared: &Shared, ctx: &Context) -> Result<(), Failed> {
    let stored = shared.daemon.images(ctx).await?;
    let images: BTreeMap<String, BTreeSet<String>> = stored
        .iter()
        .map(|image| (image.id.clone(), keys(image)))
        .collect();
    look(shared, &stored, &images);
    let is_held = |id: &String| {
        let held = shared.names();
        images.get(id).into_iter().flatten().any(|key| held.is_held(key))
    };
    let mut tried = BTreeSet::new();
    while ctx.check().is_ok() {
        let next = shared.policy().next(|id| tried.contains(id) || is_held(id));
        let Some(id) = next else { break };
        tried.insert(id.clone());
        let nothing = BTreeSet::new();
        let names = images.get(&id).unwrap_or(&nothing);
        // A caller has held the name since the image was chosen.
        if shared.names().leave(names.iter().map(String::as_str)) {
            let removed = match shared.daemon.remove_image(&id).await {
                Err(failed) if failed.says("multiple repositories") => {
                    remove_names(shared, &stored, &id).await
                }
                removed => removed,
            };
            shared.names().left(names.iter().map(String::as_str));
            match removed {
                Err(failed) if !failed.is_missing() => {
                    shared.policy().stays(&id);
                    tracing::info!(id, error = %crate::chain(&failed), "an idle image stays");
                }
                _ => {
                    shared.policy().gone(&id);
                    tracing::info!(id, ?names, "removed an idle image to make room");
                }
            }
        } else {
            shared.policy().stays(&id);
        }
        shared.settled.notify_waiters();
    }
    Ok(())
}

/// Removes an image by its names, which an engine demands of one that several repositories name.
async fn remove_names(shared: &Shared, stored: &[Stored], id: &str) -> Result<(), Failed> {
    let names = stored
        .iter()
        .filter(|image| image.id == id)
        .flat_map(|image| &image.names);
    for name in names {
        match shared.daemon.remove_image(name).await {
            // The last tag has taken the digests with it.
            Err(failed) if !failed.is_missing() => return Err(failed),
            _ => {}
        }
    }
    Ok(())
}

/// Adds new images to the policy, and removes those that no longer exist.
fn look(shared: &Shared, stored: &[Stored], images: &BTreeMap<String, BTreeSet<String>>) {
    let mut policy = shared.policy();
    let gone: Vec<String> = policy
        .images()
        .filter(|id| !images.contains_key(*id))
        .cloned()
        .collect();
    for id in &gone {
        policy.gone(id);
    }
    for image in stored {
        let names = images.get(&image.id).into_iter().flatten();
        let exempt = names.into_iter().any(|key| shared.exempt.contains(key));
        policy.saw(&image.id, exempt);
        if !policy.is_measured(&image.id) {
            policy.measured(&image.id, vec![(image.id.clone(), image.size)]);
        }
    }
}

fn keys(image: &Stored) -> BTreeSet<String> {
    let names = image.names.iter().filter_map(|name| ImageName::parse(name).ok());
    names.map(|name| name.key()).collect()
}
