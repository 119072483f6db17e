//! Facts in the configuration of a network: whether fnctr wrote it, and which bridge the network has.

use super::cni::List;

/// The longest name of an interface (`IFNAMSIZ` without the terminating 0).
pub(super) const LONGEST: usize = 15;

/// The key that marks a configuration as written by fnctr.
pub(super) const MARK: &str = "fnctr";

/// Whether an interface may have this name. Stricter than the kernel: names that a program could misread are refused.
pub(super) fn is_interface(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= LONGEST && name.chars().all(plain)
}

/// The bridge of a network, if it has one.
pub(super) fn interface(list: &List) -> Option<&str> {
    let bridges = list
        .plugins
        .iter()
        .filter(|plugin| List::kind(plugin) == "bridge");
    let mut names = bridges.filter_map(|plugin| plugin.get("bridge")?.as_str());
    names.find(|name| is_interface(name))
}

/// Whether fnctr wrote this configuration.
pub(super) fn is_ours(list: &List) -> bool {
    list.json.get(MARK).is_some()
}
