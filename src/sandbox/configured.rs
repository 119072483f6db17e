//! What the configuration of a network says of it: whether fnctr wrote it, and which bridge it has.

use super::cni::List;

/// The longest name of an interface (`IFNAMSIZ` less the 0).
pub(super) const LONGEST: usize = 15;

/// What tells the configurations that fnctr wrote from those of others.
pub(super) const MARK: &str = "fnctr";

/// Whether an interface may have this name: what the kernel takes, less what a program could read as something else.
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
