//! How a transfer gets on over all its breaks, and why it ends.

use tokio::time::Instant;

use crate::image::{Error, registry};

/// How far it is, over all breaks.
pub(super) struct Course {
    /// The furthest byte so far.
    pub(super) reached: u64,
    /// How often it broke since there was a new one.
    pub(super) breaks: u32,
    /// When that was.
    pub(super) since: Instant,
    /// Whether the first bytes are somebody else's.
    pub(super) resumed: Option<bool>,
}

impl Course {
    pub(super) fn new() -> Self {
        Self {
            reached: 0,
            breaks: 0,
            since: Instant::now(),
            resumed: None,
        }
    }

    pub(super) fn at(&mut self, offset: u64) {
        if offset > self.reached {
            (self.reached, self.breaks, self.since) = (offset, 0, Instant::now());
        }
    }
}

/// Why a transfer did not reach its end.
pub(super) enum Failed {
    /// The connection; what has come is good.
    Broken {
        why: registry::Error,
        /// Which host had begun to send.
        from: Option<usize>,
    },
    /// The bytes are not those of the blob.
    Wrong {
        /// Which host sent the last of them.
        from: Option<usize>,
    },
    /// Anything else.
    Final(Error),
}

impl Failed {
    pub(super) fn of_stream(why: registry::Error, from: Option<usize>) -> Self {
        if why.is_passing() {
            Self::Broken { why, from }
        } else {
            Self::Final(why.into())
        }
    }
}

impl From<Error> for Failed {
    fn from(why: Error) -> Self {
        Self::Final(why)
    }
}
