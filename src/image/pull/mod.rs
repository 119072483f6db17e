//! Pulling: from a name to an image that is complete and unpacked, once for everybody who wants it at the same time.
//!
//! ```text
//! Request ─► Flights: one flight per request, however many wait ─► Job, on a task of its own, under one lease
//!              │                                                    │
//!              └─ Pulling: how far it is, and its end               ├─ resolve: tag → manifest → configuration
//!                 (the last to leave cancels)                       ├─ fetch: each layer's blob, a few at a time ─┐
//!                                                                   └─ layers: unpacked in order, as they come ◄──┘
//! ```
//!
//! What is there already is not fetched: a blob that the content store has, a layer whose snapshot exists. A blob that two
//! pulls want is fetched by one of them ([`Turns`]), also if the other is another process (containerd's own lock on an
//! unfinished write, by the name that its clients give it).
//!
//! A layer's bytes go from the connection into containerd as they come, a megabyte at a time, and are hashed there alone:
//! containerd commits no blob under a digest that is not its own. Documents, which we read, we hash ourselves.
//!
//! Where a transfer breaks, it goes on: the same write, from the byte that it has, in this pull and, for
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
use super::credentials::Credential;
use super::registry::Registries;
use super::turns::Turns;
use super::{Error, ImageStore, Platform, Reference};
use crate::{Context, Digest};

/// What is wanted. Equal requests are one transfer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    /// Which image.
    pub(crate) reference: Reference,
    /// For which machines; `None` is this one.
    pub(crate) platform: Option<Platform>,
    /// Credentials for its registry, which come before the driver's own.
    pub(crate) credential: Option<Credential>,
}

/// Whether a pull that failed is begun again, and how long after; `None` is no.
pub(crate) type Again = Box<dyn FnMut(&Error) -> Option<Duration> + Send>;

/// Pulls images. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Puller {
    shared: Arc<Shared>,
    flights: Arc<Flights>,
}

/// What all pulls share.
#[derive(Debug)]
struct Shared {
    images: Arc<ImageStore>,
    registries: Registries,
    settings: PullSettings,
    tracker: TaskTracker,
    /// Ends every pull when it ends.
    life: Context,
    /// Whose turn it is to fetch a blob.
    blobs: Turns<Digest>,
    /// How many layers are being fetched.
    room: Semaphore,
    /// What pulls that broke have left for the next.
    left: Left,
}

impl Puller {
    /// Pulls into `images`, on tasks of `tracker`, until `life` ends.
    pub(crate) fn new(
        images: Arc<ImageStore>,
        settings: PullSettings,
        tracker: TaskTracker,
        life: Context,
    ) -> Self {
        let registries = Registries::new(settings.registries.clone(), settings.logins.clone());
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
            }),
            flights: Arc::default(),
        }
    }

    /// Joins the pull of this request, or begins it. `again` is asked only if it is begun.
    pub(crate) fn pull(&self, request: Request, again: Again) -> Pulling {
        Flights::join(&self.flights, &self.shared, request, again)
    }
}
