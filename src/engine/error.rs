//! Errors in the life of a container: the step that failed, the container, the kind and the cause.
//!
//! Front ends act on [`Kind`], and Docker's API on the [`Step`] too, which Docker's own texts name; the chain of sources is
//! for people.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::teardown::Failed;
use crate::{ContainerId, Interrupted, cgroup, containerd, image, sandbox};

/// The kind of an error, on which front ends act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The plan is invalid on every host.
    InvalidPlan,
    /// The image does not have the command, or its interpreter.
    CommandNotFound,
    /// The image has the command, but it cannot be executed.
    CommandNotExecutable,
    /// The plan is valid, but this host cannot serve it.
    Unsupported,
    /// The image exists but cannot be used.
    ImageRejected,
    /// Something was removed a moment ago, or all of a resource is in use; trying again can help.
    Busy,
    /// A container of that name exists, or the object is in use.
    Conflict,
    /// No container or image of that name exists, or the container's process has ended.
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

impl Kind {
    /// Its name, as a label of metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InvalidPlan => "invalid_plan",
            Self::CommandNotFound => "command_not_found",
            Self::CommandNotExecutable => "command_not_executable",
            Self::Unsupported => "unsupported",
            Self::ImageRejected => "image_rejected",
            Self::Busy => "busy",
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::OutOfOrder => "out_of_order",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// The step that failed; its text follows "cannot".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Connecting, before any container.
    Connect,
    /// Becoming the server of an instance.
    Serve,
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
    /// Reading and writing the streams of a container that runs.
    Attach,
    /// The created, not yet started process.
    Task,
    /// The start.
    Start,
    /// Waiting for the end.
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
    /// Looking for containers.
    Find,
    /// Undoing everything.
    Close,
    /// Ending its process.
    Stop,
    /// Having the turn to start or stop it.
    Turn,
    /// Writing down how its run ended, and removing the run.
    Settle,
    /// Having containerd collect its garbage.
    Collect,
    /// Work on a task of its own.
    Finish,
    /// Loading images from an archive.
    Load,
    /// Writing images to an archive.
    Save,
    /// Giving an image a name.
    Tag,
    /// Removing a name from an image.
    Untag,
    /// Giving a container another name.
    Rename,
    /// Changing the limits of a container.
    Update,
    /// Running another process in a container.
    Exec,
    /// Changing the size of a terminal.
    Resize,
    /// Reading the output that is kept.
    Logs,
    /// Copying from or to its files.
    Copy,
    /// Making and filling the volumes of a container.
    Volumes,
    /// Looking at volumes.
    FindVolume,
    /// Making a volume.
    MakeVolume,
    /// Removing a volume.
    RemoveVolume,
    /// Looking at networks.
    FindNetwork,
    /// Configuring a network.
    MakeNetwork,
    /// Removing a network.
    RemoveNetwork,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "use containerd for",
            Self::Serve => "serve",
            Self::Image => "find the image of",
            Self::Check => "run",
            Self::Network => "give a network to",
            Self::Record => "create",
            Self::Rootfs => "prepare the root file system of",
            Self::Stdio => "open the streams of",
            Self::Attach => "attach to",
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
            Self::Stop => "stop",
            Self::Turn => "start or stop",
            Self::Settle => "settle the end of",
            Self::Collect => "collect",
            Self::Finish => "finish",
            Self::Load => "load the images of",
            Self::Save => "save",
            Self::Tag => "name",
            Self::Untag => "remove",
            Self::Rename => "rename",
            Self::Update => "change the limits of",
            Self::Exec => "execute a command in",
            Self::Copy => "reach the files of",
            Self::Volumes => "prepare the volumes of",
            Self::FindVolume => "find volume",
            Self::MakeVolume => "make volume",
            Self::RemoveVolume => "remove volume",
            Self::FindNetwork => "find network",
            Self::MakeNetwork => "configure network",
            Self::RemoveNetwork => "remove network",
            Self::Logs => "read the log of",
            Self::Resize => "change the size of a terminal of",
        })
    }
}

/// Why an operation on a container failed.
#[derive(Debug)]
#[expect(clippy::error_impl_error, reason = "it is read as engine::Error")]
pub(crate) struct Error {
    step: Step,
    id: String,
    kind: Kind,
    source: Box<dyn StdError + Send + Sync>,
}

/// The result of every operation of the engine.
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
    /// `id` is the container's id, or the name of another object that the message is about.
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

    /// The step that failed.
    pub(crate) fn step(&self) -> Step {
        self.step
    }

    /// The kind.
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

/// The kind of a mechanism's error. A step with more knowledge sets the kind itself.
pub(super) trait Judged: StdError + Send + Sync + 'static {
    /// The kind that follows from the error alone.
    fn kind(&self) -> Kind;
}

impl Judged for Interrupted {
    fn kind(&self) -> Kind {
        (*self).into()
    }
}

impl Judged for containerd::Error {
    fn kind(&self) -> Kind {
        if let Some(why) = self.interrupted() {
            why.into()
        } else if self.is_unavailable() {
            Kind::Unavailable
        } else if self.is_not_found() {
            Kind::NotFound
        } else if self.is_already_exists() {
            Kind::Conflict
        } else {
            Kind::Internal
        }
    }
}

impl Judged for image::Error {
    fn kind(&self) -> Kind {
        if let Some(why) = self.interrupted() {
            return why.into();
        }
        match self {
            _ if self.is_unavailable() => Kind::Unavailable,
            // A part of the image was removed a moment ago.
            Self::Containerd { source, .. } if source.is_not_found() => Kind::Busy,
            // containerd or the kernel failed, which is not a fault of the image.
            Self::Containerd { .. } | Self::DiskFull { .. } | Self::Rootfs { .. } | Self::NotSaved { .. } => {
                Kind::Internal
            }
            Self::NoSuchImage { .. } => Kind::NotFound,
            Self::NotFetched { .. } if self.is_passing() => Kind::Unavailable,
            Self::NotFetched { source, .. } => source.kind(),
            Self::InUse { .. } | Self::SeveralNames { .. } | Self::SeveralImages { .. } => Kind::Conflict,
            _ => Kind::ImageRejected,
        }
    }
}

/// For a pull that several callers wait for.
impl Judged for Arc<image::Error> {
    fn kind(&self) -> Kind {
        self.as_ref().kind()
    }
}

impl Judged for cgroup::Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFrozen { .. } | Self::NotThawed { .. } => Kind::Timeout,
            Self::Unsupported { .. } => Kind::Unsupported,
            error if error.is_gone() => Kind::NotFound,
            _ => Kind::Internal,
        }
    }
}

impl Judged for sandbox::Error {
    fn kind(&self) -> Kind {
        if let Some(why) = self.interrupted() {
            why.into()
        } else if self.is_callers() {
            Kind::InvalidPlan
        } else if self.is_conflict() {
            Kind::Conflict
        } else if self.is_busy() {
            Kind::Busy
        } else if self.is_configuration() {
            Kind::Unsupported
        } else {
            Kind::Internal
        }
    }
}

/// Turns the first failed undo step into an error, and logs the others.
pub(super) fn report(step: Step, id: &ContainerId, failed: Vec<Failed>) -> Result<()> {
    let mut failed = failed.into_iter();
    let Some(first) = failed.next() else { return Ok(()) };
    for other in failed {
        tracing::warn!(error = %crate::chain(&other), "a close could not undo a step");
    }
    let kind = first
        .source
        .downcast_ref::<containerd::Error>()
        .map_or(Kind::Internal, Judged::kind);
    Err(Error::new(step, id, kind, first))
}

/// Attaches the step and the container to a mechanism's error.
pub(super) trait ErrorContext<T> {
    /// For errors that determine their kind.
    fn at(self, step: Step, id: impl fmt::Display) -> Result<T>;
}

impl<T, E: Judged> ErrorContext<T> for Result<T, E> {
    fn at(self, step: Step, id: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::new(step, id, error.kind(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_every_mechanism_determines_the_kind() {
        let gone = cgroup::Error::Gone { path: "/c".into() };
        let missing = image::Error::NoSuchImage { image: "a".into() };
        let kind = |failed: Result<(), Error>| failed.unwrap_err().kind();
        assert_eq!(kind(Err(gone).at(Step::Stats, "c")), Kind::NotFound);
        assert_eq!(kind(Err(Arc::new(missing)).at(Step::Image, "c")), Kind::NotFound);
        let late = Interrupted::DeadlineExceeded;
        assert_eq!(kind(Err(late).at(Step::Wait, "c")), Kind::Timeout);
        let refused = Err::<(), _>(containerd::Error::unusable("x", "y", String::new())).at(Step::Task, "c");
        assert_eq!(refused.unwrap_err().to_string(), "cannot create the process of c");
    }
}
