//! The disk space of an image: blobs in the content store, and snapshots. Each of them may be shared with other images.

use std::collections::BTreeMap;

use crate::Digest;

/// Data on disk that images can share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A blob of the content store.
    Blob(Digest),
    /// A snapshot, by its key.
    Snapshot(String),
    /// An unfinished write into the content store, by its reference. It belongs to no image.
    Unfinished(String),
}

/// The parts of an image that exist on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// The parts with their sizes in bytes.
    pub(crate) parts: Vec<(Part, u64)>,
}

impl Footprint {
    /// The bytes of its blobs in the content store, compressed as they were fetched.
    pub(crate) fn content(&self) -> u64 {
        self.sum(|part| matches!(part, Part::Blob(_)))
    }

    /// The bytes of its snapshots, unpacked.
    pub(crate) fn unpacked(&self) -> u64 {
        self.sum(|part| matches!(part, Part::Snapshot(_)))
    }

    fn sum(&self, of: impl Fn(&Part) -> bool) -> u64 {
        let parts = self.parts.iter().filter(|(part, _)| of(part));
        parts
            .map(|(_, size)| size)
            .fold(0, |sum, size| sum.saturating_add(*size))
    }
}

/// The bytes that several images occupy together: a part that they share is counted once.
fn together<'a>(images: impl IntoIterator<Item = &'a Footprint>) -> u64 {
    let parts: BTreeMap<&Part, u64> = images
        .into_iter()
        .flat_map(|image| image.parts.iter().map(|(part, size)| (part, *size)))
        .collect();
    parts.into_values().fold(0, u64::saturating_add)
}

/// The bytes that the removal of an image frees while `others` stay: those of the parts that none of the others has.
pub(crate) fn freed<'a>(
    image: &'a Footprint,
    others: impl IntoIterator<Item = &'a Footprint> + Clone,
) -> u64 {
    let all = others.clone().into_iter().chain([image]);
    together(all).saturating_sub(together(others))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[(&str, u64)]) -> Footprint {
        let snapshot = |(key, size): &(&str, u64)| (Part::Snapshot((*key).to_owned()), *size);
        Footprint {
            parts: parts.iter().map(snapshot).collect(),
        }
    }

    #[test]
    fn what_is_shared_counts_once_and_is_freed_with_the_last_that_has_it() {
        let (one, two) = (of(&[("base", 100), ("one", 5)]), of(&[("base", 100), ("two", 7)]));
        assert_eq!(together([&one, &two]), 112);
        assert_eq!(freed(&one, [&two]), 5);
        assert_eq!(freed(&one, []), 105);
        assert_eq!(freed(&one, [&one]), 0);
        assert_eq!((one.unpacked(), one.content()), (105, 0));
    }
}
