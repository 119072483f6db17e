//! What has a state rather than a count, as it is when the text of the metrics is made.

/// The statistics of the pool of prepared networks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PoolCounts {
    /// Slots that can be taken.
    pub(crate) ready: usize,
    /// Slots that are leased to containers.
    pub(crate) leased: usize,
    /// Slots that are being made, washed or inspected.
    pub(crate) preparing: usize,
    /// The wanted number of slots.
    pub(crate) target: usize,
    /// How often a slot was taken.
    pub(crate) hits: u64,
    /// How often no slot was ready.
    pub(crate) misses: u64,
    /// How many slots were found dead.
    pub(crate) dead: u64,
}

/// The images whose disk space is limited, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ImageLevels {
    /// Images that this process uses; only the others may be removed.
    pub(crate) in_use: usize,
    /// Of the others, those that are never removed.
    pub(crate) exempt: usize,
    pub(crate) idle: usize,
    /// What all of them occupy together, in bytes.
    pub(crate) occupied: u64,
    /// What they may occupy, in bytes.
    pub(crate) limit: u64,
}
