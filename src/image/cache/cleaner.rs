//! Carries out the policy: lists the images, measures new ones, and removes those that the policy chooses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::containerd::{self, ImageRecord};
use crate::metrics::RetryReason;
use crate::{Context, Digest};

/// Notifications that arrive within this time are handled together.
const SETTLE: Duration = Duration::from_millis(100);
/// How often the images are listed without a notification, because other processes add images, too.
const LOOK: Duration = Duration::from_secs(60);
/// How long one round with its removals may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The records of images by their target digest.
type ByTarget = BTreeMap<Digest, Vec<ImageRecord>>;

/// Keeps the images within their limit until `life` ends.
pub(super) async fn run(shared: Arc<Shared>, life: Context) {
    loop {
        let round = life.with_timeout(PATIENCE);
        if let Err(why) = clean(&shared, &round).await {
            tracing::warn!(why = %crate::chain(&why), "cannot check the size of the images; trying again in a minute");
            shared.images.session.metrics().retry(RetryReason::CleanUp);
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

async fn clean(shared: &Shared, ctx: &Context) -> Result<(), containerd::Error> {
    let session = &shared.images.session;
    let mut images = ByTarget::new();
    for record in session.images().list(ctx, &[]).await? {
        images
            .entry(record.target.digest.clone())
            .or_default()
            .push(record);
    }
    look(shared, ctx, &images).await;
    if shared.policy().total() <= shared.limit {
        return Ok(());
    }
    let containers = session.containers().list(ctx, &[]).await?;
    let used: BTreeSet<String> = containers.into_iter().map(|container| container.image).collect();
    let in_use = |digest: &Digest| {
        let names = images.get(digest).into_iter().flatten();
        let held = shared.names();
        names
            .into_iter()
            .any(|record| used.contains(&record.name) || held.is_held(&record.name))
    };
    let mut tried = BTreeSet::new();
    loop {
        let next = shared
            .policy()
            .next(|digest| tried.contains(digest) || in_use(digest));
        let Some(digest) = next else { break };
        let before = shared.policy().total();
        let names = images.get(&digest).map_or(&[][..], Vec::as_slice);
        let names: Vec<_> = names.iter().collect();
        let named = names.iter().map(|record| record.name.as_str());
        tried.insert(digest.clone());
        // A caller has held the name since the image was chosen.
        if !shared.names().leave(named.clone()) {
            shared.policy().stays(&digest);
            shared.settled.notify_waiters();
            continue;
        }
        let removed = shared.images.remove_names(ctx, &names).await;
        shared.names().left(named);
        match removed {
            Ok(()) => {
                let mut policy = shared.policy();
                policy.gone(&digest);
                let freed = before.saturating_sub(policy.total());
                drop(policy);
                session.metrics().evicted(freed);
                let names: Vec<_> = names.iter().map(|record| record.name.as_str()).collect();
                tracing::info!(?names, freed, "removed an idle image to make room");
            }
            Err(why) => {
                shared.policy().stays(&digest);
                tracing::warn!(%digest, why = %crate::chain(&why), "cannot remove an idle image");
                tried.insert(digest);
            }
        }
        shared.settled.notify_waiters();
    }
    let total = shared.policy().total();
    if total > shared.limit {
        tracing::debug!(
            total,
            limit = shared.limit,
            "the images are above their limit, and all of them are in use or exempt"
        );
    }
    Ok(())
}

/// Adds new images to the policy, and removes those that no longer exist.
async fn look(shared: &Shared, ctx: &Context, images: &ByTarget) {
    let gone: Vec<Digest> = {
        let policy = shared.policy();
        let known = policy.images().filter(|digest| !images.contains_key(digest));
        known.cloned().collect()
    };
    for digest in &gone {
        shared.policy().gone(digest);
    }
    for (digest, records) in images {
        let exempt = records.iter().any(|record| shared.exempt.contains(&record.name));
        let measured = {
            let mut policy = shared.policy();
            policy.saw(digest, exempt);
            policy.is_measured(digest)
        };
        let Some(record) = records.first().filter(|_| !measured) else {
            continue;
        };
        match shared.images.contents(ctx, record).await {
            Ok(contents) => shared.policy().measured(digest, contents.footprint.parts),
            Err(why) => {
                tracing::debug!(image = record.name, why = %crate::chain(&why), "cannot measure an image");
            }
        }
    }
}
