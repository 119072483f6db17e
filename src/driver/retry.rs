//! The policy by which pulls are retried.

use crate::driver::{BackOffConfig, RetryErrorChecker};

/// How pulls are retried.
#[derive(Clone)]
pub(crate) struct Retry {
    pub(crate) policy: BackOffConfig,
    pub(crate) checker: RetryErrorChecker,
}

impl std::fmt::Debug for Retry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { policy, checker: _ } = self;
        f.debug_struct("Retry")
            .field("policy", policy)
            .finish_non_exhaustive()
    }
}
