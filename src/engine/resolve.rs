//! First half of the line: the image, found and readable. Nothing is made here, so nothing must be undone.

use super::Deps;
use super::error::{At as _, Result, Step};
use super::plan::Plan;
use crate::Context;
use crate::image::{Image, Pin};

/// The image that the plan names; `None` if it must be pulled first, which is a value and not an error.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn resolve(deps: &Deps, ctx: &Context, plan: &Plan) -> Result<Option<(Image, Pin)>> {
    ctx.check().at(Step::Image, &plan.id)?;
    let hold = deps.cache.hold(ctx, &plan.image).await;
    let hold = hold.at(Step::Image, &plan.id)?;
    let found = deps.images.find(ctx, &plan.image).await;
    let Some(image) = found.at(Step::Image, &plan.id)? else {
        return Ok(None);
    };
    let pin = hold.pin(ctx, &image).await.at(Step::Image, &plan.id)?;
    Ok(Some((image, pin)))
}
