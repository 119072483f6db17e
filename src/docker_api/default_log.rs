//! The logging driver of containers whose makers name none, as data.

use std::collections::BTreeMap;

/// A driver, and its options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DefaultLog {
    pub(super) driver: String,
    pub(super) options: BTreeMap<String, String>,
}
