//! The networks of `docker_networks`, and how many containers this driver has on each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the containers on each network. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Networks(Arc<Mutex<BTreeMap<String, usize>>>);

/// A container's place on a network, which it gives back when this is dropped.
#[derive(Debug)]
#[must_use = "a place that nobody holds is given back"]
pub(super) struct Place {
    networks: Networks,
    name: String,
}

impl Networks {
    /// A place on the least used of these, or on the first of those that are used equally little. `None` if there are
    /// none.
    pub(super) fn least_used(&self, names: &[String]) -> Option<Place> {
        let mut counts = self.counts();
        let name = names
            .iter()
            .min_by_key(|name| counts.get(*name).copied().unwrap_or_default())?;
        *counts.entry(name.clone()).or_default() += 1;
        drop(counts);
        Some(Place {
            networks: self.clone(),
            name: name.clone(),
        })
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The network's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.networks.counts();
        if let Some(count) = counts.get_mut(&self.name) {
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_spread_and_a_place_that_is_given_back_is_used_again() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let networks = Networks::default();
        let mut places: Vec<_> = (0..6).filter_map(|_| networks.least_used(&names)).collect();
        let on: Vec<_> = places.iter().map(Place::name).collect();
        assert_eq!(on, ["a", "b", "c", "a", "b", "c"]);
        drop(places.remove(4));
        assert_eq!(networks.least_used(&names).unwrap().name(), "b");
        assert!(networks.least_used(&[]).is_none());
    }
}
