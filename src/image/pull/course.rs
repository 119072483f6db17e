//! The progress of a transfer over all its interruptions, and why it ends.

use crate::image::{Error, registry};

/// The progress of a transfer, over all interruptions.
pub(super) struct Course {
    /// The highest offset reached so far.
    pub(super) reached: u64,
    /// Whether new bytes have arrived since the transfer was last started or resumed.
    pub(super) moved: bool,
    /// The hosts that have broken off without a new byte since the last new byte.
    pub(super) idle_hosts: Vec<usize>,
    /// Whether the first bytes come from an earlier transfer.
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

    /// The transfer starts where an earlier one has stopped. Bytes of that one do not count as new.
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

/// Why a transfer was not completed.
pub(super) enum Failed {
    /// The connection broke; the received bytes are valid.
    Broken {
        why: registry::Error,
        /// The index of the host that had started to send.
        from: Option<usize>,
    },
    /// The bytes do not match the digest or the size of the blob.
    Wrong {
        /// The index of the host that sent the last of them.
        from: Option<usize>,
    },
    /// Any other error.
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
