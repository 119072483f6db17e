//! The writable snapshot that a container's process sees as `/`.

use std::collections::BTreeMap;

use super::Deps;
use super::error::{Error, ErrorContext as _, Judged as _, Kind, Result, Step};
use super::plan::Plan;
use crate::containerd::{self, Mount, Session};
use crate::image::Image;
use crate::teardown::Teardown;
use crate::{ContainerId, Context};

/// The undo step that removes the snapshot.
pub(super) const STEP: &str = "snapshot";

/// Prepares the snapshot on top of the image's layers. Returns the mounts, which containerd makes when the task is
/// created.
pub(super) async fn prepare(
    deps: &Deps,
    ctx: &Context,
    plan: &Plan,
    image: &Image,
    undo: &mut Teardown,
) -> Result<Vec<Mount>> {
    let key = plan.id.as_str();
    defer_removal(undo, &deps.session, &deps.config.snapshotter, &plan.id);
    let snapshots = deps.session.snapshots(&deps.config.snapshotter);
    let mut prepared = snapshots
        .prepare(ctx, key, Some(&image.chain_id), &BTreeMap::new())
        .await;
    if prepared.as_ref().is_err_and(containerd::Error::is_already_exists) {
        // This attempt made the record a moment ago, so this snapshot was left by a crashed container of the same id.
        remove(&deps.session, ctx, &deps.config.snapshotter, &plan.id)
            .await
            .at(Step::Rootfs, &plan.id)?;
        prepared = snapshots
            .prepare(ctx, key, Some(&image.chain_id), &BTreeMap::new())
            .await;
    }
    prepared.map_err(|error| {
        if error.is_not_found() {
            // The cached facts about the image are no longer true.
            deps.images.store.forget(image);
            let vanished = Vanished {
                image: plan.image.to_string(),
                source: error,
            };
            Error::new(Step::Rootfs, &plan.id, Kind::Busy, vanished)
        } else {
            Error::new(Step::Rootfs, &plan.id, error.kind(), error)
        }
    })
}

/// The image was removed between the look-up and the snapshot.
#[derive(Debug, thiserror::Error)]
#[error("image {image} was removed while the container was being created; try again")]
struct Vanished {
    image: String,
    #[source]
    source: containerd::Error,
}

/// Puts the removal of the snapshot on the list.
pub(super) fn defer_removal(undo: &mut Teardown, session: &Session, snapshotter: &str, id: &ContainerId) {
    let (session, snapshotter, id) = (session.clone(), snapshotter.to_owned(), id.clone());
    undo.defer(STEP, move |ctx| {
        let (session, snapshotter, id) = (session.clone(), snapshotter.clone(), id.clone());
        async move { remove(&session, &ctx, &snapshotter, &id).await }
    });
}

/// Removes the snapshot. Succeeds if it is gone already.
async fn remove(
    session: &Session,
    ctx: &Context,
    snapshotter: &str,
    id: &ContainerId,
) -> Result<(), containerd::Error> {
    match session.snapshots(snapshotter).remove(ctx, id.as_str()).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
