//! How a transfer gets on over all its breaks, and why it ends.

use crate::image::{Error, registry};

/// How far it is, over all breaks.
pub(super) struct Course {
    /// The furthest byte so far.
    pub(super) reached: u64,
    /// There was a new one since it was last begun or gone on with.
    pub(super) moved: bool,
    /// The hosts that have broken off without a new byte, since there was one.
    pub(super) idle_hosts: Vec<usize>,
    /// Whether the first bytes are somebody else's.
    pub(super) resumed: Option<bool>,
}

impl Course {
    pub(super) fn new() -> Self {
        Self {
            reached: 0,
            moved: false,
            idle_hosts: Vec::new(),
            resumed: None,
        }
    }

    /// What an earlier transfer has left is where this one begins, and no byte of its own.
    pub(super) fn begins_at(&mut self, offset: u64) {
        self.reached = self.reached.max(offset);
    }

    pub(super) fn at(&mut self, offset: u64) {
        if offset > self.reached {
            (self.reached, self.moved) = (offset, true);
            self.idle_hosts.clear();
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
