//! First half of a creation: finds the image and reads its configuration. Nothing is made here, so nothing must be
//! undone.

use super::deps::{Deps, Engine};
use super::error::{ErrorContext as _, Result, Step};
use super::plan::Plan;
use crate::Context;
use crate::image::{Image, Pin};

/// The image that the plan names; `None` if it must be pulled first, which is not an error.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn resolve(deps: &Deps, ctx: &Context, plan: &Plan) -> Result<Option<(Image, Pin)>> {
    ctx.check().at(Step::Image, &plan.id)?;
    let hold = deps.images.cache.hold(ctx, &plan.image).await;
    let hold = hold.at(Step::Image, &plan.id)?;
    let found = deps.images.store.find(ctx, &plan.image).await;
    let Some(image) = found.at(Step::Image, &plan.id)? else {
        return Ok(None);
    };
    let pin = hold.pin(ctx, &image).await.at(Step::Image, &plan.id)?;
    Ok(Some((image, pin)))
}

impl Engine {
    /// The image that the plan names, or `None` if it must be pulled first. The image is kept for as long as the
    /// [`Pin`] is held.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn resolve(&self, ctx: &Context, plan: &Plan) -> Result<Option<(Image, Pin)>> {
        resolve(&self.0, ctx, plan).await
    }
}
