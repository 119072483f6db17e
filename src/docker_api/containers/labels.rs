//! The labels that clients see.

use std::collections::BTreeMap;

use crate::engine::label;

/// The labels that the user has given: those of fnctr and of containerd are left out.
pub(in crate::docker_api) fn shown(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let own = |name: &str| name.starts_with(label::OWN) || name.starts_with("containerd.io/");
    let given = labels.iter().filter(|(name, _)| !own(name));
    given.map(|(name, value)| (name.clone(), value.clone())).collect()
}
