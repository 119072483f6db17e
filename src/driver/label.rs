//! The labels of the contract, by which existing hosts find their containers.

use std::collections::BTreeMap;

/// Marks a container of this kind of host.
pub(crate) const CLASSIFIER: &str = "fn-agent-classifier";
/// Names the instance that created the container.
pub(crate) const INSTANCE: &str = "fn-agent-instance";

/// Whether another instance created a container with these labels. A container without an instance counts as another's,
/// because no host can ask for it any more.
pub(crate) fn is_of_another(labels: &BTreeMap<String, String>, instance: &str) -> bool {
    labels.get(INSTANCE).is_none_or(|made_by| made_by != instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_containers_are_never_foreign_and_those_without_an_instance_always_are() {
        let made_by = |instance: &str| BTreeMap::from([(INSTANCE.to_owned(), instance.to_owned())]);
        assert!(!is_of_another(&made_by("i-1"), "i-1"));
        assert!(is_of_another(&made_by("i-2"), "i-1"));
        assert!(is_of_another(&BTreeMap::new(), "i-1"));
    }
}
