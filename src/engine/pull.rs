//! Pulls images, before a container is created. The module `image` does the work, on the engine's connection and
//! tracker; a pull ends with the engine.

use super::Engine;
use super::error::{ErrorContext as _, Result, Step};
use super::plan::Plan;
use crate::Context;
use crate::image::{Again, Hold, Image, Pin};
pub(crate) use crate::image::{Credential, LayerProgress, LayerState, Platform, Progress, Pulling, Request};

impl Engine {
    /// Begins a pull, or joins the pull of the same request. `again` decides whether a failed pull is begun again.
    pub(crate) fn pull(&self, request: Request, again: Again) -> Pulling {
        self.0.images.puller.pull(request, again)
    }

    /// Protects the image that a plan names from the cleaner, before the image is pulled: the cleaner would regard an
    /// image that was just pulled as unused.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn hold(&self, ctx: &Context, plan: &Plan) -> Result<Hold> {
        let held = self.0.images.cache.hold(ctx, &plan.image).await;
        held.at(Step::Image, &plan.id)
    }

    /// Protects an image that was pulled under a hold on its name, for as long as the [`Pin`] is held.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn keep(&self, ctx: &Context, plan: &Plan, hold: Hold, image: &Image) -> Result<Pin> {
        self.0.images.cache.changed();
        let pinned = hold.pin(ctx, image).await;
        pinned.at(Step::Image, &plan.id)
    }
}
