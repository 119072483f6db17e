//! Pulls images: from a name to an image that is complete and unpacked, once for all callers that want it at the same
//! time.
//!
//! ```text
//! Request ─► Flights: one flight per request, however many wait ─► Job, on a task of its own, under one lease
//!              │                                                    │
//!              └─ Pulling: how far it is, and its end               ├─ resolve: tag → manifest → configuration
//!                 (the last to leave cancels)                       ├─ fetch: each layer's blob, a few at a time ─┐
//!                                                                   └─ layers: unpacked in order, as they come ◄──┘
//! ```
//!
//! What exists already is not fetched: a blob in the content store, or a layer whose snapshot exists. A blob that two
//! pulls need is fetched by one of them ([`Turns`]), also if the other pull runs in another process (containerd locks
//! an unfinished write by its name, and all of containerd's clients use the same names).
//!
//! The bytes of a layer are passed from the connection to containerd as they arrive, a megabyte at a time, and only
//! containerd hashes them: it commits no blob whose digest does not match. Documents are parsed here and so are also
//! hashed here.
//!
//! A broken transfer is resumed: the same write continues after the last received byte, in this pull or, for
//! [`PullSettings::keep`] after it, in the next one.

mod complete;
mod course;
mod fetch;
mod flight;
mod job;
mod layers;
mod left;
mod progress;
mod resolve;
mod settings;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use self::flight::Flights;
pub(crate) use self::flight::Pulling;
use self::left::Left;
pub(crate) use self::progress::{LayerProgress, LayerState, Progress};
pub(crate) use self::settings::PullSettings;
use self::work::Job;
use super::registry::Registries;
use super::turns::Turns;
use super::{Error, ImageStore, Platform, Reference};
use crate::credentials::Credential;
use crate::{Context, Digest};

/// The image to pull. Equal requests share one transfer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    /// The name of the image.
    pub(crate) reference: Reference,
    /// The platform; `None` means that of this machine.
    pub(crate) platform: Option<Platform>,
    /// Credentials for the registry, which take precedence over the driver's own.
    pub(crate) credential: Option<Credential>,
}

/// Decides whether a failed pull is retried: returns the delay before the retry, or `None` for no retry.
pub(crate) type Again = Box<dyn FnMut(&Error) -> Option<Duration> + Send>;

/// What is called when a pull has ended, with the name of the image, how long it took, and whether it succeeded.
pub(crate) struct OnEnd(Box<EndOf>);

type EndOf = dyn Fn(&Reference, Duration, bool) + Send + Sync;

impl OnEnd {
    pub(crate) fn new(call: impl Fn(&Reference, Duration, bool) + Send + Sync + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl std::fmt::Debug for OnEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnEnd")
    }
}

/// Pulls images. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Puller {
    shared: Arc<Shared>,
    flights: Arc<Flights>,
}

/// The state that all pulls share.
#[derive(Debug)]
struct Shared {
    images: Arc<ImageStore>,
    registries: Registries,
    settings: PullSettings,
    tracker: TaskTracker,
    /// Ends every pull when it ends.
    life: Context,
    /// The order in which pulls fetch the same blob.
    blobs: Turns<Digest>,
    /// Limits how many layers are fetched at once.
    room: Semaphore,
    /// The leases that broken pulls have left for the next pull.
    left: Left,
    on_end: OnEnd,
}

impl Puller {
    /// Pulls into `images`, on tasks of `tracker`, until `life` ends.
    pub(crate) fn new(
        images: Arc<ImageStore>,
        settings: PullSettings,
        tracker: TaskTracker,
        life: Context,
        on_end: OnEnd,
    ) -> Self {
        let registries = Registries::new(
            settings.registries.clone(),
            settings.logins.clone(),
            images.session.metrics(),
        );
        Self {
            shared: Arc::new(Shared {
                images,
                registries,
                room: Semaphore::new(settings.layers_in_all.max(1)),
                settings,
                tracker,
                life,
                blobs: Turns::new(),
                left: Left::default(),
                on_end,
            }),
            flights: Arc::default(),
        }
    }

    /// Joins the pull of this request, or starts one. `again` is used only if a pull is started.
    pub(crate) fn pull(&self, request: Request, again: Again) -> Pulling {
        self.flights.join(&self.shared, request, again)
    }
}
