//! What can go wrong in the life of a container: at which step, for which one, of which kind, and why.
//!
//! Front doors act on [`Kind`] and on nothing else; the chain of sources is for people.

use std::error::Error as StdError;
use std::fmt;

use crate::{Interrupted, containerd};

/// What a front door can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The plan asks for something that makes no sense anywhere.
    InvalidPlan,
    /// The plan is fine, but this host cannot keep it.
    Unsupported,
    /// The image is there and cannot be used.
    ImageRejected,
    /// Something that was there a moment ago is gone; trying again can help.
    Busy,
    /// A container of that name exists.
    Conflict,
    /// No container of that name exists, or its process is gone.
    NotFound,
    /// The call does not fit the container's phase.
    OutOfOrder,
    /// The deadline passed.
    Timeout,
    /// The caller gave up.
    Cancelled,
    /// containerd cannot be reached.
    Unavailable,
    /// Anything else.
    Internal,
}

/// Where in the life of a container something went wrong; reads after "cannot".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Before any container.
    Connect,
    /// Finding the image.
    Image,
    /// Comparing the plan with the image and the host.
    Check,
    /// The network namespace and its network.
    Network,
    /// The containerd record.
    Record,
    /// The writable snapshot.
    Rootfs,
    /// The fifos.
    Stdio,
    /// The created, not yet started process.
    Task,
    /// The start.
    Start,
    /// Learning of the end.
    Wait,
    /// Freezing.
    Freeze,
    /// Thawing.
    Thaw,
    /// Taking memory back.
    Reclaim,
    /// Sending a signal.
    Signal,
    /// Reading usage.
    Stats,
    /// Looking at what runs.
    Find,
    /// Undoing everything.
    Close,
    /// Loading images from an archive.
    Load,
    /// Writing images to one.
    Save,
    /// Giving an image a name.
    Tag,
    /// Taking one from it.
    Untag,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "use containerd for",
            Self::Image => "find the image of",
            Self::Check => "accept",
            Self::Network => "give a network to",
            Self::Record => "create",
            Self::Rootfs => "prepare the root file system of",
            Self::Stdio => "open the streams of",
            Self::Task => "create the process of",
            Self::Start => "start",
            Self::Wait => "wait for",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Reclaim => "take memory back from",
            Self::Signal => "signal",
            Self::Stats => "read the usage of",
            Self::Find => "find",
            Self::Close => "remove",
            Self::Load => "load the images of",
            Self::Save => "save",
            Self::Tag => "name",
            Self::Untag => "remove",
        })
    }
}

/// An operation on one container that did not do its job.
#[derive(Debug)]
#[expect(clippy::error_impl_error, reason = "it is read as engine::Error")]
pub(crate) struct Error {
    step: Step,
    id: String,
    kind: Kind,
    source: Box<dyn StdError + Send + Sync>,
}

/// Every operation of the engine.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.step, self.id)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

impl Error {
    /// `id` is the container's, or whatever else a person would look for.
    pub(crate) fn new(
        step: Step,
        id: impl fmt::Display,
        kind: Kind,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            step,
            id: id.to_string(),
            kind,
            source: source.into(),
        }
    }

    /// What a front door can act on.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

impl From<Interrupted> for Kind {
    fn from(why: Interrupted) -> Self {
        match why {
            Interrupted::Cancelled => Self::Cancelled,
            Interrupted::DeadlineExceeded => Self::Timeout,
        }
    }
}

/// The kind that follows from containerd's answer alone. A step that knows more says so itself.
pub(super) fn kind_of(error: &containerd::Error) -> Kind {
    if let Some(why) = error.interrupted() {
        why.into()
    } else if error.is_unavailable() {
        Kind::Unavailable
    } else if error.is_not_found() {
        Kind::NotFound
    } else if error.is_already_exists() {
        Kind::Conflict
    } else {
        Kind::Internal
    }
}

/// Attaches the step and the container to what a mechanism said.
pub(super) trait At<T> {
    /// For errors whose kind follows from containerd's answer.
    fn at(self, step: Step, id: impl fmt::Display) -> Result<T>;
}

impl<T> At<T> for Result<T, containerd::Error> {
    fn at(self, step: Step, id: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::new(step, id, kind_of(&error), error))
    }
}

impl<T> At<T> for Result<T, Interrupted> {
    fn at(self, step: Step, id: impl fmt::Display) -> Result<T> {
        self.map_err(|why| Error::new(step, id, why.into(), why))
    }
}
