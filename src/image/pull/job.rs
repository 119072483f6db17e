//! The steps of a pull: resolve the name, fetch and unpack the layers, record the image. All steps run under one lease,
//! and are retried according to the caller's policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::resolve::Resolved;
use super::work::{Job, Work, abandoned};
use super::{Again, layers, resolve};
use crate::Context;
use crate::containerd::ImageRecord;
use crate::image::scratch::{self, Scratch};
use crate::image::{Error, Image};
use crate::metrics::RetryReason;

/// The least number of bytes worth keeping; fetching fewer again takes little time.
const WORTH_KEEPING: u64 = 4 << 20;

impl Job {
    /// Pulls the image. Whatever did not become part of the image is removed, except that valid bytes are kept for a
    /// while.
    ///
    /// # Cancellation
    /// Not safe to drop, so it runs on a task of its own. Interrupting `ctx` unwinds.
    pub(super) async fn run(self, ctx: &Context, again: Again) -> Result<Image, Error> {
        let shared = Arc::clone(&self.shared);
        let (images, settings) = (&shared.images, &shared.settings);
        let repository = self
            .shared
            .registries
            .repository(&self.request.reference, self.request.credential.as_ref())?;
        let earlier = tokio::select! {
            biased;
            left = images.left_of(ctx, &self.name) => left?,
            source = abandoned(ctx) => return Err(self.not_pulled(source)),
        };
        let scratch = tokio::select! {
            biased;
            taken = Scratch::take(&images.session, ctx, ("pull", &self.name), settings.lease) => {
                taken.map_err(Error::containerd(&self.name))?
            }
            source = abandoned(ctx) => return Err(self.not_pulled(source)),
        };
        let job = Arc::new(self);
        let work = Arc::new(Work {
            job: Arc::clone(&job),
            repository,
            scratch,
        });
        let pulled = tokio::select! {
            biased;
            pulled = work.tries(ctx, again) => pulled,
            never = work.scratch.keep_alive(ctx) => match never {},
            source = abandoned(ctx) => Err(job.not_pulled(source)),
        };
        let worth_keeping = !settings.keep.is_zero() && layers::fetched(&job.reporter) >= WORTH_KEEPING;
        let keeps = match &pulled {
            Err(why) if why.leaves_good_bytes() && worth_keeping => {
                work.scratch.leave(ctx, settings.keep).await
            }
            pulled => {
                work.scratch.release(ctx, pulled.is_err()).await;
                None
            }
        };
        if pulled.is_ok() || keeps.is_some() {
            // What earlier attempts have left now belongs to the image, or is held by the lease of this attempt.
            for lease in shared.left.take(&job.name).iter().chain(&earlier.0) {
                scratch::drop_left(&images.session, ctx, lease).await;
            }
        }
        if let Some(lease) = keeps {
            shared.left.note(&job.name, lease, settings.keep);
        }
        pulled
    }
}

impl Work {
    async fn tries(self: &Arc<Self>, ctx: &Context, mut again: Again) -> Result<Image, Error> {
        loop {
            let why = match self.once(ctx).await {
                Ok(image) => return Ok(image),
                Err(why) => why,
            };
            if why.interrupted().is_some() {
                return Err(why);
            }
            let Some(delay) = again(&why) else {
                return Err(why);
            };
            self.job.reporter.failed(&why);
            ctx.run(tokio::time::sleep(delay))
                .await
                .map_err(|source| self.job.not_pulled(source))?;
            self.job.reporter.retry();
            self.metrics().retry(RetryReason::Pull);
        }
    }

    async fn once(self: &Arc<Self>, ctx: &Context) -> Result<Image, Error> {
        let resolved = resolve::resolve(self, ctx).await?;
        let chain_id = layers::all(self, ctx, &resolved).await?;
        let Resolved {
            target,
            config,
            layers,
            settings,
            ..
        } = resolved;
        let name = self.job.name.clone();
        let record = ImageRecord {
            name: name.clone(),
            target: target.clone(),
            labels: BTreeMap::new(),
        };
        let images = &self.job.shared.images;
        images.record(ctx, &self.scratch.leased(), record).await?;
        let image = Image {
            name,
            target,
            config_digest: config.digest,
            chain_id,
            layers: layers.into(),
            config: Arc::new(settings),
        };
        if self.job.request.platform.is_none() {
            self.job.shared.images.remember(&image);
        }
        Ok(image)
    }
}
