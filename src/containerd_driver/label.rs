//! The labels of the contract, by which hosts of old find their containers.

use std::collections::BTreeMap;

/// "A container of this kind of host".
pub(super) const CLASSIFIER: &str = "fn-agent-classifier";
/// "Made by this instance".
pub(super) const INSTANCE: &str = "fn-agent-instance";

/// Whether another instance made a container with these labels. One that names no instance was made by nobody who can still ask
/// for it.
pub(super) fn is_of_another(labels: &BTreeMap<String, String>, instance: &str) -> bool {
    labels.get(INSTANCE).is_none_or(|made_by| made_by != instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_containers_are_never_foreign_and_those_of_nobody_always_are() {
        let made_by = |instance: &str| BTreeMap::from([(INSTANCE.to_owned(), instance.to_owned())]);
        assert!(!is_of_another(&made_by("i-1"), "i-1"));
        assert!(is_of_another(&made_by("i-2"), "i-1"));
        assert!(is_of_another(&BTreeMap::new(), "i-1"));
    }
}
