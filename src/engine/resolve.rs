//! First half of the line: the image, found and readable. Nothing is made here, so nothing must be undone.

use super::Deps;
use super::error::{At as _, Error, Kind, Result, Step};
use super::plan::Plan;
use crate::Context;
use crate::image::{self, Image, Pin};

/// The image that the plan names; `None` if it must be pulled first, which is a value and not an error.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn resolve(deps: &Deps, ctx: &Context, plan: &Plan) -> Result<Option<(Image, Pin)>> {
    ctx.check().at(Step::Image, &plan.id)?;
    let hold = deps.cache.hold(ctx, &plan.image).await;
    let hold = hold.at(Step::Image, &plan.id)?;
    let found = deps.images.find(ctx, &plan.image).await;
    let Some(image) = found.map_err(|error| refused(plan, error))? else {
        return Ok(None);
    };
    let pin = hold.pin(ctx, &image).await.at(Step::Image, &plan.id)?;
    Ok(Some((image, pin)))
}

/// What an image error means for the container.
pub(super) fn refused(plan: &Plan, error: image::Error) -> Error {
    Error::new(Step::Image, &plan.id, image_kind(&error), error)
}

/// The kind of an image error.
pub(super) fn image_kind(error: &image::Error) -> Kind {
    if let Some(why) = error.interrupted() {
        return why.into();
    }
    match error {
        _ if error.is_unavailable() => Kind::Unavailable,
        // Something of it that was there a moment ago is not.
        image::Error::Containerd { source, .. } if source.is_not_found() => Kind::Busy,
        // containerd or the kernel failed, which says nothing about the image.
        image::Error::Containerd { .. } | image::Error::DiskFull { .. } | image::Error::Rootfs { .. } => {
            Kind::Internal
        }
        image::Error::NoSuchImage { .. } => Kind::NotFound,
        image::Error::InUse { .. }
        | image::Error::SeveralNames { .. }
        | image::Error::SeveralImages { .. } => Kind::Conflict,
        image::Error::NotSaved { .. } => Kind::Internal,
        _ => Kind::ImageRejected,
    }
}
