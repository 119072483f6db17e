//! The names of sandboxes.

/// Begins the name of every sandbox, to distinguish it from the names of other programs.
pub(super) const PREFIX: &str = "fnctr-";

/// Whether `id` is the name of a sandbox. The check is strict, because files with this name are removed.
pub(super) fn is_name(id: &str) -> bool {
    id.starts_with(PREFIX)
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Returns a name that no other process and no other call returns. It is short, because plugins hash it into the names
/// of their chains.
pub(super) fn unique(token: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};

    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{token}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
