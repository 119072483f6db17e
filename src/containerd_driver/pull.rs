//! Pulls of one image under the host's retry policy.
//!
//! What a try does is the image room's; this version has images from archives only, so a try finds the image in the
//! store or fails.

use super::{Retry, Shared, translate};
use crate::Context;
use crate::driver::{BackOff, Error, ErrorKind, dice};
use crate::engine::Plan;

/// Tries until the image is there, the policy allows no more, or the error is not worth another try.
pub(super) async fn pull(shared: &Shared, ctx: &Context, plan: &Plan) -> Result<(), Error> {
    let Retry { policy, checker } = shared.retry();
    let mut delays = BackOff::new(policy);
    loop {
        let Err(error) = once(shared, ctx, plan).await else {
            return Ok(());
        };
        let Some(reason) = checker(&error) else {
            return Err(error);
        };
        let Some(delay) = delays.next_delay(dice()) else {
            return Err(error);
        };
        tracing::warn!(image = %plan.image, reason, ?delay, error = %error.report(), "pulling again");
        ctx.run(tokio::time::sleep(delay)).await?;
    }
}

async fn once(shared: &Shared, ctx: &Context, plan: &Plan) -> Result<(), Error> {
    ctx.check()?;
    let failed = |error: Error| match error.kind() {
        // The caller's own doing says nothing about the image.
        ErrorKind::Cancelled | ErrorKind::Timeout => error,
        _ => Error::pull(plan.image.familiar(), None, error),
    };
    match shared
        .engine
        .resolve(ctx, plan)
        .await
        .map_err(translate)
        .map_err(failed)?
    {
        Some(_) => Ok(()),
        None => {
            let why =
                "it is not in the image store, and this version of fnctr loads images from archives only";
            Err(Error::pull(plan.image.familiar(), Some(404), why))
        }
    }
}
