//! The ways in which a call breaks, and what each may mean for a life.

use std::time::Duration;

use fnctr::Context;
use fnctr::driver::{ErrorKind, Status};

use crate::fake_containerd::How;
use crate::rig::LONG;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// containerd is busy with something else.
    Unavailable,
    /// containerd refuses for a reason of its own.
    Internal,
    /// It takes effect, and the reply is lost.
    ReplyLost,
    /// The caller gives up when the call arrives; it goes on.
    Cancel,
    /// No answer before the caller's deadline.
    Hang,
}

impl Way {
    /// All but [`Way::Hang`], which costs its time.
    pub(crate) const AT_ONCE: [Self; 4] = [Self::Unavailable, Self::Internal, Self::ReplyLost, Self::Cancel];

    /// Those that are containerd's doing alone.
    pub(crate) const OF_CONTAINERD: [Self; 3] = [Self::Unavailable, Self::Internal, Self::ReplyLost];

    /// The deadlines of lives that shall meet it, to be tried until one has: a call hangs until its caller's deadline, and on a
    /// busy machine a short one may pass before the call is made.
    pub(crate) fn limits(self) -> impl Iterator<Item = Duration> {
        let limits = match self {
            Self::Hang => [1, 4, 16, 60].map(Duration::from_secs).to_vec(),
            _ => vec![LONG],
        };
        limits.into_iter()
    }

    /// The context of a life that meets it, if that takes no deadline.
    pub(crate) fn context(self) -> Context {
        assert!(self != Self::Hang, "a call that hangs needs a deadline that fits");
        Context::timeout(LONG)
    }

    /// For the fault plan.
    pub(crate) fn how(self, ctx: &Context) -> How {
        match self {
            Self::Unavailable => How::BeforeEffect(tonic::Status::unavailable("busy")),
            Self::Internal => How::BeforeEffect(tonic::Status::internal("no space left on device")),
            Self::ReplyLost => How::AfterEffect,
            Self::Cancel => {
                let ctx = ctx.clone();
                How::Cancel(Box::new(move || ctx.cancel()))
            }
            Self::Hang => How::Hang,
        }
    }

    /// The kind of the error that a life may end with.
    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            Self::Unavailable | Self::ReplyLost => ErrorKind::Unavailable,
            Self::Internal => ErrorKind::Internal,
            Self::Cancel => ErrorKind::Cancelled,
            Self::Hang => ErrorKind::Timeout,
        }
    }

    /// The status of a life that got as far as one.
    pub(crate) fn allows(self, status: Status) -> bool {
        match self {
            Self::Unavailable | Self::Internal | Self::ReplyLost => status == Status::Success,
            Self::Cancel => matches!(status, Status::Success | Status::Cancelled),
            Self::Hang => matches!(status, Status::Success | Status::Timeout),
        }
    }
}
