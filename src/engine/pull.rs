//! Before a life can begin: the image, pulled. All of it is the image room's; here it gets the engine's connection, tracker
//! and end.

use super::error::{At as _, Result, Step};
use super::plan::Plan;
use super::{Engine, resolve};
use crate::Context;
use crate::image::{Again, Image, Pin, Request};
pub(crate) use crate::image::{LayerProgress, LayerState, Platform, Progress, Pulling};

impl Engine {
    /// Begins a pull, or joins the one of the same request. `again` says whether one that fails is begun again.
    pub(crate) fn pull(&self, request: Request, again: Again) -> Pulling {
        self.0.puller.pull(request, again)
    }

    /// Keeps an image that was just pulled until it is validated. `false` beside it, or no pin: the cleaner was faster, for
    /// which a pulled image is one that nobody uses; pulled again under the pin, it stays.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn keep(
        &self,
        ctx: &Context,
        plan: &Plan,
        image: &Image,
    ) -> Result<(Option<Pin>, bool)> {
        self.0.cache.changed();
        let Some(pin) = self.0.cache.pin(ctx, image).await.at(Step::Image, &plan.id)? else {
            return Ok((None, false));
        };
        if !pin.is_unseen {
            return Ok((Some(pin), true));
        }
        let found = self.0.images.find(ctx, &plan.image).await;
        let found = found.map_err(|error| resolve::refused(plan, error))?;
        Ok((Some(pin), found.is_some()))
    }
}
