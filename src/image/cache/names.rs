//! Names whose images must not go, whatever they stand for by then. Pure.
//!
//! A pull knows the name of its image before it knows the image. So the name is held while the image is found or pulled,
//! and the image itself is pinned before the name is let go.

use std::collections::{BTreeMap, BTreeSet};

/// Who holds which name, and which names are being removed.
#[derive(Debug, Default)]
pub(super) struct Names {
    held: BTreeMap<String, usize>,
    leaving: BTreeSet<String>,
}

impl Names {
    /// One more holds it. `false`: it is being removed just now.
    pub(super) fn hold(&mut self, name: &str) -> bool {
        if self.leaving.contains(name) {
            return false;
        }
        *self.held.entry(name.to_owned()).or_default() += 1;
        true
    }

    /// One fewer holds it.
    pub(super) fn release(&mut self, name: &str) {
        if let Some(holders) = self.held.get_mut(name) {
            *holders = holders.saturating_sub(1);
            if *holders == 0 {
                self.held.remove(name);
            }
        }
    }

    /// Somebody holds it.
    pub(super) fn is_held(&self, name: &str) -> bool {
        self.held.contains_key(name)
    }

    /// These are removed from now on, until [`Names::left`]. `false`: somebody holds one of them, and none is.
    pub(super) fn leave<'a>(&mut self, names: impl Iterator<Item = &'a str> + Clone) -> bool {
        if names.clone().any(|name| self.is_held(name)) {
            return false;
        }
        self.leaving.extend(names.map(str::to_owned));
        true
    }

    /// They are removed, or stay.
    pub(super) fn left<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
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
