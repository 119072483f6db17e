//! Before a life can begin: the image, pulled. All of it is the image room's; here it gets the engine's connection, tracker
//! and end.

use super::Engine;
use crate::Context;
use crate::image::{Again, Image, Pin, Request};
pub(crate) use crate::image::{LayerProgress, LayerState, Platform, Progress, Pulling};

impl Engine {
    /// Begins a pull, or joins the one of the same request. `again` says whether one that fails is begun again.
    pub(crate) fn pull(&self, request: Request, again: Again) -> Pulling {
        self.0.puller.pull(request, again)
    }

    /// Keeps an image that was just pulled until it is validated.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn keep(&self, ctx: &Context, image: &Image) -> Option<Pin> {
        self.0.cache.changed();
        // One that is gone again is missed when it is looked for.
        self.0.cache.pin(ctx, image).await.ok().flatten()
    }
}
