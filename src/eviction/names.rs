//! Names whose images must not be removed, whatever image a name refers to later. Pure.
//!
//! A pull has the name of its image before it has the image. So the name is held while the image is found or pulled,
//! and the image itself is pinned before the name is released.

use std::collections::{BTreeMap, BTreeSet};

/// The number of holders of each name, and the names that are being removed.
#[derive(Debug, Default)]
pub(crate) struct Names {
    held: BTreeMap<String, usize>,
    leaving: BTreeSet<String>,
}

impl Names {
    /// Adds a holder of the name. Returns `false` if the name is being removed.
    pub(crate) fn hold(&mut self, name: &str) -> bool {
        if self.leaving.contains(name) {
            return false;
        }
        *self.held.entry(name.to_owned()).or_default() += 1;
        true
    }

    /// Removes a holder of the name.
    pub(crate) fn release(&mut self, name: &str) {
        if let Some(holders) = self.held.get_mut(name) {
            *holders = holders.saturating_sub(1);
            if *holders == 0 {
                self.held.remove(name);
            }
        }
    }

    /// Whether the name has a holder.
    pub(crate) fn is_held(&self, name: &str) -> bool {
        self.held.contains_key(name)
    }

    /// Marks these names as being removed, until [`Names::left`]. Returns `false`, and marks none, if one of them is
    /// held.
    pub(crate) fn leave<'a>(&mut self, names: impl Iterator<Item = &'a str> + Clone) -> bool {
        if names.clone().any(|name| self.is_held(name)) {
            return false;
        }
        self.leaving.extend(names.map(str::to_owned));
        true
    }

    /// Ends the removal of these names, whether it succeeded or not.
    pub(crate) fn left<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        for name in names {
            self.leaving.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_held_by_anybody_does_not_leave() {
        let mut names = Names::default();
        assert!(names.hold("a") && names.hold("a"));
        names.release("a");
        assert!(!names.leave(["b", "a"].into_iter()));
        assert!(names.hold("b"), "none of them is leaving");
        names.release("b");
        names.release("a");
        assert!(names.leave(["b", "a"].into_iter()));
    }

    #[test]
    fn a_name_that_is_leaving_is_not_held_until_it_has_left() {
        let mut names = Names::default();
        assert!(names.leave(["a"].into_iter()));
        assert!(!names.hold("a") && names.hold("b"));
        names.left(["a"].into_iter());
        assert!(names.hold("a"));
    }
}
