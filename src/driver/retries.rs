//! The count of retries, for metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How often pulls were retried, by the reason that the retry policy's checker gave.
#[derive(Debug, Default)]
pub(crate) struct Retries(Mutex<BTreeMap<String, u64>>);

impl Retries {
    pub(crate) fn count(&self, reason: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(reason.to_owned()).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
