//! Operations on local images, for the command line. The module `image` implements them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::{Deps, Engine};
use crate::events::{Action, Event, Kind as EventKind};
use crate::image::{AbandonedLeases, Reference};
pub(crate) use crate::image::{Error as ImageError, Format, Loaded, Removed, StoredImage, StoredImages};
use crate::{Context, LeaseId, clock};

/// Ends the leases that killed processes have left, in the background. If they could not be listed, the start continues
/// without that.
pub(super) async fn end_orphans(
    deps: &Arc<Deps>,
    ctx: &Context,
    listed: Result<AbandonedLeases, ImageError>,
) {
    let orphans = match listed {
        Ok(orphans) if orphans.is_empty() => return,
        Ok(orphans) => orphans,
        Err(why) => {
            tracing::debug!(why = %crate::chain(&why), "cannot list the image leases of killed processes");
            return;
        }
    };
    // Begun before a caller can ask for a removal, which then waits for it.
    let Ok(mut sweep) = deps.images.store.sweep(ctx).await else {
        return;
    };
    let background = Arc::clone(deps);
    deps.recover(async move {
        // Not the engine's context: a command that ends at once waits for this at its close and does not cut it off.
        let ctx = Context::timeout(background.config.close_grace);
        if let Err(why) = background.images.store.end_leases(&ctx, &mut sweep, &orphans).await {
            tracing::warn!(why = %crate::chain(&why), "cannot end the image leases of killed processes; they expire");
        }
    });
}

impl Engine {
    /// Makes containerd collect its garbage now, rather than after some more changes: removed snapshots lie on disk
    /// until then. containerd collects it before it answers a synchronous delete of a lease.
    ///
    /// # Cancellation
    /// Safe to drop: the lease expires.
    pub(crate) async fn collect_garbage(&self, ctx: &Context) -> Result<()> {
        let name = "the garbage of removed objects";
        let lease = LeaseId::new(format!("fnctr-gc-{}", crate::ids::unique()))
            .map_err(|error| Error::new(Step::Collect, name, Kind::Internal, error))?;
        let leases = self.0.session.leases();
        let soon = clock::now() + Duration::from_secs(60);
        leases
            .create(ctx, &lease, soon, &BTreeMap::new())
            .await
            .at(Step::Collect, name)?;
        leases.delete(ctx, &lease, true).await.at(Step::Collect, name)
    }

    /// Loads the images of an archive. Before that, removes what a killed load has left, to make room.
    ///
    /// # Cancellation
    /// Safe to drop: the load is undone on its own task.
    pub(crate) async fn load(&self, ctx: &Context, file: &Path) -> Result<Loaded> {
        let (deps, file) = (Arc::clone(&self.0), file.to_owned());
        let load = move |ctx: Context| async move {
            let loading = async {
                let images = &deps.images.store;
                let orphans = images.orphans(&ctx, deps.config.pulls.kept()).await?;
                if !orphans.is_empty() {
                    let mut sweep = images.sweep(&ctx).await?;
                    images.end_leases(&ctx, &mut sweep, &orphans).await?;
                }
                images.load(&ctx, &file).await
            };
            let loaded = loading.await;
            deps.images.cache.changed();
            loaded
                .inspect(|loaded| deps.tell_loaded(loaded))
                .at(Step::Load, file.display())
        };
        self.0.tracked(ctx, load).await
    }

    /// All local images.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn stored_images(&self, ctx: &Context) -> Result<StoredImages> {
        let stored = self.0.images.store.stored_images(ctx).await;
        stored.at(Step::Find, "the images")
    }

    /// Gives an image another name.
    ///
    /// # Cancellation
    /// Safe to drop: it continues to its end.
    pub(crate) async fn tag(&self, ctx: &Context, source: &str, name: &Reference) -> Result<()> {
        let (deps, ctx, source, name) = (Arc::clone(&self.0), ctx.clone(), source.to_owned(), name.clone());
        let tag = async move {
            let tagged = deps.images.store.tag(&ctx, &source, &name).await;
            tagged.at(Step::Tag, source)?;
            let event = Event::new(EventKind::Image, Action::Tag, name.to_string());
            deps.record(event);
            Ok(())
        };
        self.0.finished(tag).await
    }

    /// Removes a name, or an image by its id.
    ///
    /// # Cancellation
    /// Safe to drop: the removal continues to its end, so that an image does not lose only some of its names.
    pub(crate) async fn remove_image(&self, ctx: &Context, image: &str, force: bool) -> Result<Removed> {
        let (deps, ctx, image) = (Arc::clone(&self.0), ctx.clone(), image.to_owned());
        let remove = async move {
            let removed = deps.images.store.remove(&ctx, &image, force).await;
            deps.images.cache.changed();
            removed
                .inspect(|removed| deps.tell_removed(removed))
                .at(Step::Untag, image)
        };
        self.0.finished(remove).await
    }

    /// Removes the images that no container uses; images with a name only if `all` is set.
    ///
    /// # Cancellation
    /// Safe to drop: it stops, and the images that were removed by then are gone.
    pub(crate) async fn prune_images(&self, ctx: &Context, all: bool) -> Result<Removed> {
        let deps = Arc::clone(&self.0);
        let prune = move |ctx: Context| async move {
            let removed = deps.images.store.prune(&ctx, all).await;
            deps.images.cache.changed();
            removed
                .inspect(|removed| deps.tell_removed(removed))
                .at(Step::Untag, "the unused images")
        };
        self.0.tracked(ctx, prune).await
    }

    /// Writes images as an archive; returns its size in bytes. Parts that are missing here are fetched first.
    ///
    /// # Cancellation
    /// Safe to drop: the archive is then not complete.
    pub(crate) async fn save(
        &self,
        ctx: &Context,
        images: &[String],
        format: Format,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64> {
        let (deps, wanted) = (Arc::clone(&self.0), images.to_vec());
        let complete = move |ctx: Context| async move {
            // Boxed: the future of a command would be nested deeper than the compiler follows.
            let completed = Box::pin(deps.images.puller.complete(&ctx, &wanted)).await;
            completed.at(Step::Save, wanted.join(" "))
        };
        self.0.tracked(ctx, complete).await?;
        let saved = Box::pin(self.0.images.store.save(ctx, images, format, out)).await;
        saved.at(Step::Save, images.join(" "))
    }
}
