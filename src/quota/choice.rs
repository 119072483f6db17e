//! The order in which project numbers are tried for a directory. Pure functions.
//!
//! The order is derived from the directory's inode number, which no other directory of the file system has. So two
//! claims at the same time begin at different numbers, and if they meet, they continue with different steps.

/// The first number that fnctr uses: "fn" in its upper half, far from the numbers of users and of other tools (kubelet
/// counts from 1048577, Docker from 1).
pub(super) const FIRST: u32 = 0x666E_0000;
/// How many numbers fnctr uses. A power of two, so that any odd step visits all of them.
pub(super) const COUNT: u32 = 1 << 16;

/// 2^64 divided by the golden ratio: spreads numbers that differ little, as inode numbers do (Knuth, 6.4).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Whether a number is one that fnctr uses.
pub(super) fn is_ours(id: u32) -> bool {
    (FIRST..FIRST + COUNT).contains(&id)
}

/// Returns all numbers that fnctr uses, each once, in the order for this inode.
pub(super) fn candidates(inode: u64) -> impl Iterator<Item = u32> {
    let [a, b, c, d, ..] = inode.wrapping_mul(SPREAD).to_be_bytes();
    order(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// Returns all numbers that fnctr uses, beginning with the one at `start`. An even `step` is raised to the next odd
/// one.
fn order(start: u16, step: u16) -> impl Iterator<Item = u32> {
    let step = step | 1;
    let mut at = start;
    (0..COUNT).map(move |_| {
        let id = FIRST + u32::from(at);
        at = at.wrapping_add(step);
        id
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_number_is_tried_once_and_none_that_is_not_ours() {
        for inode in [0, 1, 131, u64::MAX] {
            let tried: Vec<_> = candidates(inode).collect();
            assert!(tried.iter().all(|id| is_ours(*id)));
            let distinct: BTreeSet<_> = tried.iter().collect();
            assert_eq!(distinct.len(), COUNT as usize, "inode {inode}");
        }
        assert!(!is_ours(0) && !is_ours(FIRST - 1) && !is_ours(FIRST + COUNT));
    }

    #[test]
    fn directories_made_one_after_the_other_begin_at_different_numbers() {
        // XFS spreads directories over its allocation groups: the upper bits of the inode number change, the lower do
        // not.
        let in_groups = (0..16u64).flat_map(|group| (0..64).map(move |n| (group << 20 | 131) + n * 2));
        let begun: BTreeSet<_> = in_groups.filter_map(|inode| candidates(inode).next()).collect();
        assert!(begun.len() > 1000, "{} of 1024", begun.len());
    }

    #[test]
    fn two_that_meet_part_again() {
        let (one, other) = (order(7, 11), order(7, 13));
        let together = one.zip(other).take_while(|(one, other)| one == other).count();
        assert_eq!(together, 1);
    }
}
