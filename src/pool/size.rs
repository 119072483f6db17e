//! How many slots a pool should have: between a floor and a ceiling, depending on demand. Pure; the caller's `tick` is
//! the clock.

/// After this many ticks without demand the target shrinks by one slot.
const PATIENCE: u32 = 10;

/// The fewest and the most slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) floor: usize,
    /// The same as the floor for a pool that does not grow.
    pub(crate) ceiling: usize,
}

/// How many slots a pool should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    bounds: Bounds,
    target: usize,
    /// The fewest slots that were ready since the last review of the target.
    spare: usize,
    calm: u32,
}

impl Size {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds: Bounds {
                ceiling: bounds.ceiling.max(bounds.floor),
                ..bounds
            },
            target: bounds.floor,
            spare: usize::MAX,
            calm: 0,
        }
    }

    pub(crate) fn target(&self) -> usize {
        self.target
    }

    /// Records that no slot was ready: the target grows by half, but at least by one slot.
    pub(crate) fn missed(&mut self) {
        let more = self.target + (self.target / 2).max(1);
        self.target = more.min(self.bounds.ceiling);
        self.needed();
    }

    /// Records that a slot was taken, and that `left` slots are still ready.
    pub(crate) fn took(&mut self, left: usize) {
        self.spare = self.spare.min(left);
        if left == 0 {
            self.needed();
        }
    }

    fn needed(&mut self) {
        self.calm = 0;
        self.spare = 0;
    }

    /// Records that some time has passed. The target shrinks by one slot after `PATIENCE` ticks in which more than one
    /// slot was always ready.
    pub(crate) fn tick(&mut self) {
        self.calm += 1;
        if self.calm < PATIENCE {
            return;
        }
        self.calm = 0;
        if self.spare > 1 && self.target > self.bounds.floor {
            self.target -= 1;
        }
        self.spare = usize::MAX;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_grows_with_what_is_missed_and_shrinks_when_nothing_is() {
        let mut size = Size::new(Bounds {
            floor: 4,
            ceiling: 10,
        });
        size.missed();
        assert_eq!(size.target(), 6);
        size.missed();
        size.missed();
        assert_eq!(size.target(), 10);
        for _ in 0..10 {
            size.tick();
        }
        assert_eq!(size.target(), 10, "it was needed a moment ago");
        for _ in 0..10 {
            size.took(3);
            size.tick();
        }
        assert_eq!(size.target(), 9);
        for _ in 0..1000 {
            size.tick();
        }
        assert_eq!(size.target(), 4);
    }

    #[test]
    fn a_pool_that_does_not_grow_stays_as_it_is() {
        let mut size = Size::new(Bounds { floor: 3, ceiling: 0 });
        size.missed();
        size.tick();
        assert_eq!(size.target(), 3);
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_bounds(floor in 0_usize..20, more in 0_usize..20, what in prop::collection::vec(0_u8..3, 0..300)) {
            let mut size = Size::new(Bounds { floor, ceiling: floor + more });
            for what in what {
                match what {
                    0 => size.missed(),
                    1 => size.took(usize::from(what)),
                    _ => size.tick(),
                }
                prop_assert!((floor..=floor + more).contains(&size.target()));
            }
        }
    }
}
