//! Decides which images stay, and which is removed next. Pure.
//!
//! An image occupies parts (blobs, snapshots), which it may share with other images: a part is counted once, however
//! many images have it. Images in use are counted, but never removed; of the others, the least recently used one is
//! removed first. Removing an image that shares all of its parts frees nothing immediately, but it is the oldest, and
//! shared parts can only be freed together with the last image that has them.

use std::collections::HashMap;
use std::hash::Hash;

/// The known images, and how much they may occupy.
#[derive(Debug)]
pub(crate) struct Policy<K, P> {
    /// In bytes.
    limit: u64,
    images: HashMap<K, Entry<P>>,
    /// The size of each part, and the number of images that have it.
    parts: HashMap<P, (u64, usize)>,
    /// All parts together, in bytes.
    total: u64,
    /// A counter that increases with each use.
    clock: u64,
}

#[derive(Debug)]
struct Entry<P> {
    parts: Vec<P>,
    /// The number of its users.
    pins: usize,
    exempt: bool,
    leaving: bool,
    /// The time of its last use, by the policy's clock.
    used: u64,
}

impl<K: Hash + Eq + Clone + Ord, P: Hash + Eq + Clone> Policy<K, P> {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            images: HashMap::new(),
            parts: HashMap::new(),
            total: 0,
            clock: 0,
        }
    }

    /// The bytes that all images occupy.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Whether the parts of the image are known.
    pub(crate) fn is_measured(&self, image: &K) -> bool {
        self.images
            .get(image)
            .is_some_and(|entry| !entry.parts.is_empty())
    }

    /// All known images.
    pub(crate) fn images(&self) -> impl Iterator<Item = &K> {
        self.images.keys()
    }

    /// How many images are in use, exempt though not in use, and idle.
    pub(crate) fn uses(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Entry<P>) -> bool| self.images.values().filter(|entry| is(entry)).count();
        (
            count(|entry| entry.pins > 0),
            count(|entry| entry.pins == 0 && entry.exempt),
            count(|entry| entry.pins == 0 && !entry.exempt),
        )
    }

    /// Sets the parts of an image. An image that was not known is idle from now on.
    pub(crate) fn measured(&mut self, image: &K, parts: Vec<(P, u64)>) {
        self.known(image);
        self.release(image);
        let mut own = Vec::new();
        for (part, size) in parts {
            if own.contains(&part) {
                continue;
            }
            let (_, holders) = self.parts.entry(part.clone()).or_insert_with(|| {
                self.total = self.total.saturating_add(size);
                (size, 0)
            });
            *holders += 1;
            own.push(part);
        }
        if let Some(entry) = self.images.get_mut(image) {
            entry.parts = own;
        }
    }

    /// Adds an image that was found in the store. An exempt image is never removed.
    pub(crate) fn saw(&mut self, image: &K, exempt: bool) {
        self.known(image).exempt = exempt;
    }

    /// Adds a user of the image. Returns `false` if the image is being removed and so cannot be used.
    pub(crate) fn pin(&mut self, image: &K) -> bool {
        let entry = self.known(image);
        if entry.leaving {
            return false;
        }
        entry.pins += 1;
        true
    }

    /// Removes a user of the image and records this as its last use.
    pub(crate) fn unpin(&mut self, image: &K) {
        let now = self.tick();
        if let Some(entry) = self.images.get_mut(image) {
            entry.pins = entry.pins.saturating_sub(1);
            entry.used = now;
        }
    }

    /// The image has been removed, by the cleaner or by another process. While it has users, it is still counted.
    pub(crate) fn gone(&mut self, image: &K) {
        if self.images.get(image).is_some_and(|entry| entry.pins == 0) {
            self.release(image);
            self.images.remove(image);
        }
    }

    /// Chooses the image to remove next, if all together are too large. The image counts as leaving until
    /// [`Policy::gone`] or [`Policy::stays`].
    pub(crate) fn next(&mut self, but_not: impl Fn(&K) -> bool) -> Option<K> {
        if self.total <= self.limit {
            return None;
        }
        let idle = self
            .images
            .iter()
            .filter(|(image, entry)| entry.is_idle() && !but_not(image));
        // Of two images with equal last uses, the choice is always the same.
        let (image, _) = idle.min_by(|(one, a), (other, b)| (a.used, one).cmp(&(b.used, other)))?;
        let image = image.clone();
        if let Some(entry) = self.images.get_mut(&image) {
            entry.leaving = true;
        }
        Some(image)
    }

    /// The image could not be removed. It becomes the most recently used, so that it is tried last.
    pub(crate) fn stays(&mut self, image: &K) {
        let now = self.tick();
        if let Some(entry) = self.images.get_mut(image) {
            (entry.leaving, entry.used) = (false, now);
        }
    }

    fn known(&mut self, image: &K) -> &mut Entry<P> {
        let now = self.tick();
        self.images.entry(image.clone()).or_insert_with(|| Entry {
            parts: Vec::new(),
            pins: 0,
            exempt: false,
            leaving: false,
            used: now,
        })
    }

    fn release(&mut self, image: &K) {
        let parts = self
            .images
            .get_mut(image)
            .map(|entry| std::mem::take(&mut entry.parts));
        for part in parts.into_iter().flatten() {
            let Some((size, holders)) = self.parts.get_mut(&part) else {
                continue;
            };
            *holders -= 1;
            if *holders == 0 {
                self.total = self.total.saturating_sub(*size);
                self.parts.remove(&part);
            }
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

impl<P> Entry<P> {
    fn is_idle(&self) -> bool {
        self.pins == 0 && !self.exempt && !self.leaving
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    type Small = Policy<u8, u8>;

    fn of(limit: u64, images: &[(u8, &[(u8, u64)])]) -> Small {
        let mut policy = Policy::new(limit);
        for (image, parts) in images {
            policy.measured(image, parts.to_vec());
        }
        policy
    }

    fn all(policy: &mut Small) -> Vec<u8> {
        std::iter::from_fn(|| {
            let next = policy.next(|_| false)?;
            policy.gone(&next);
            Some(next)
        })
        .collect()
    }

    #[test]
    fn the_one_whose_last_use_is_longest_ago_goes_first_and_only_as_many_as_must() {
        let mut policy = of(
            25,
            &[(1, &[(1, 10)]), (2, &[(2, 10)]), (3, &[(3, 10)]), (4, &[(4, 10)])],
        );
        assert!(policy.pin(&1));
        policy.unpin(&1);
        assert_eq!(all(&mut policy), [2, 3]);
        assert_eq!(policy.total(), 20);
    }

    #[test]
    fn what_is_shared_counts_once_and_goes_with_the_last_that_has_it() {
        let base: (u8, u64) = (9, 100);
        let mut policy = of(
            105,
            &[(1, &[base, (1, 5)]), (2, &[base, (2, 5)]), (3, &[base, (9, 100)])],
        );
        assert_eq!(policy.total(), 110);
        assert_eq!(all(&mut policy), [1]);
        policy.limit = 99;
        assert_eq!(all(&mut policy), [2, 3]);
        assert_eq!(policy.total(), 0);
    }

    #[test]
    fn what_is_in_use_exempt_or_leaving_stays_and_counts() {
        let mut policy = of(0, &[(1, &[(1, 10)]), (2, &[(2, 10)]), (3, &[(3, 10)])]);
        assert!(policy.pin(&1));
        policy.saw(&2, true);
        assert_eq!(policy.uses(), (1, 1, 1));
        assert_eq!(policy.next(|_| false), Some(3));
        assert_eq!(policy.next(|_| false), None, "3 is leaving already");
        assert!(!policy.pin(&3), "and cannot be used any more");
        policy.stays(&3);
        assert!(policy.pin(&3));
        assert_eq!(policy.total(), 30);
        policy.gone(&3);
        assert_eq!(policy.uses(), (2, 1, 0));
        assert_eq!(
            policy.total(),
            30,
            "its bytes are there for as long as somebody uses them"
        );
    }

    #[test]
    fn one_that_could_not_be_removed_has_its_turn_last() {
        let mut policy = of(0, &[(1, &[(1, 10)]), (2, &[(2, 10)])]);
        assert_eq!(policy.next(|_| false), Some(1));
        policy.stays(&1);
        assert_eq!(policy.next(|_| false), Some(2));
        assert_eq!(policy.next(|image| *image == 1), None, "this round has tried it");
    }

    #[derive(Debug, Clone)]
    enum Move {
        Measure(u8, Vec<(u8, u64)>),
        Exempt(u8, bool),
        Pin(u8),
        Unpin(u8),
        Gone(u8),
        Next(bool),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let image = 0..6_u8;
        // A part has the same size in every image.
        let parts = prop::collection::vec((0..8_u8).prop_map(|part| (part, u64::from(part) * 10 + 1)), 1..5);
        prop::collection::vec(
            prop_oneof![
                (image.clone(), parts).prop_map(|(image, parts)| Move::Measure(image, parts)),
                (image.clone(), any::<bool>()).prop_map(|(image, exempt)| Move::Exempt(image, exempt)),
                image.clone().prop_map(Move::Pin),
                image.clone().prop_map(Move::Unpin),
                image.prop_map(Move::Gone),
                any::<bool>().prop_map(Move::Next),
            ],
            0..60,
        )
    }

    /// A model of the policy that is as simple as possible.
    #[derive(Default)]
    struct Model {
        images: BTreeMap<u8, (BTreeSet<u8>, usize, bool)>,
        /// Least recently used first.
        order: Vec<u8>,
    }

    impl Model {
        fn total(&self) -> u64 {
            let parts: BTreeSet<u8> = self
                .images
                .values()
                .flat_map(|(parts, ..)| parts.clone())
                .collect();
            parts.into_iter().map(|part| u64::from(part) * 10 + 1).sum()
        }

        fn known(&mut self, image: u8) -> &mut (BTreeSet<u8>, usize, bool) {
            if !self.images.contains_key(&image) {
                self.order.push(image);
            }
            self.images.entry(image).or_default()
        }

        fn used(&mut self, image: u8) {
            self.order.retain(|other| *other != image);
            self.order.push(image);
        }

        fn remove(&mut self, image: u8) {
            self.images.remove(&image);
            self.order.retain(|other| *other != image);
        }

        fn next(&self, limit: u64) -> Option<u8> {
            let idle = |image: &&u8| matches!(self.images[image], (_, 0, false));
            (self.total() > limit).then(|| self.order.iter().find(idle).copied())?
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_model_whatever_happens(moves in moves(), limit in 0..200_u64) {
            let (mut policy, mut model) = (Small::new(limit), Model::default());
            for one in moves {
                match one {
                    Move::Measure(image, parts) => {
                        model.known(image).0 = parts.iter().map(|(part, _)| *part).collect();
                        policy.measured(&image, parts);
                    }
                    Move::Exempt(image, exempt) => {
                        model.known(image).2 = exempt;
                        policy.saw(&image, exempt);
                    }
                    Move::Pin(image) => {
                        model.known(image).1 += 1;
                        prop_assert!(policy.pin(&image), "nothing is leaving between two moves");
                    }
                    Move::Unpin(image) => {
                        if model.images.get(&image).is_some_and(|(_, pins, _)| *pins > 0) {
                            model.known(image).1 -= 1;
                            model.used(image);
                            policy.unpin(&image);
                        }
                    }
                    Move::Gone(image) => {
                        if model.images.get(&image).is_some_and(|(_, pins, _)| *pins == 0) {
                            model.remove(image);
                        }
                        policy.gone(&image);
                    }
                    Move::Next(removed) => {
                        let next = policy.next(|_| false);
                        prop_assert_eq!(next, model.next(limit));
                        match next {
                            Some(image) if removed => {
                                policy.gone(&image);
                                model.remove(image);
                            }
                            Some(image) => {
                                policy.stays(&image);
                                model.used(image);
                            }
                            None => {}
                        }
                    }
                }
                prop_assert_eq!(policy.total(), model.total());
                prop_assert!(policy.images().all(|image| model.images.contains_key(image)));
            }
        }
    }
}
