//! Before a life can begin: the image, pulled. All of it is the image room's; here it gets the engine's connection, tracker
//! and end.

use super::Engine;
use crate::image::{Again, Request};
pub(crate) use crate::image::{LayerProgress, LayerState, Platform, Progress, Pulling};

impl Engine {
    /// Begins a pull, or joins the one of the same request. `again` says whether one that fails is begun again.
    pub(crate) fn pull(&self, request: Request, again: Again) -> Pulling {
        self.0.puller.pull(request, again)
    }
}
