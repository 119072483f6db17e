//! Freezes and thaws a container, and relies only on the state that the kernel reports.
//!
//! ```text
//!            write        read back, sched_yield     read back, yield to the executor    sleep 1..8 ms, read back
//! freeze ──► request ───► spin (200 µs) ───────────► cooperate (2 ms) ─────────────────► poll ──► Confirmed
//!            └──────────── fast, in line ──┘└────────────── Pending: deadline, or dropped ──────► rolled back
//! ```
//!
//! Writing is only a request: the processes stop when they next leave the kernel. One process takes some 10 µs, a
//! hundred take some 350 µs, so reading back at once keeps a freeze cheap. The spin ends after `SPIN`, about as long
//! as an executor's thread may be blocked. After that, the wait yields to the executor between the reads, which costs
//! other tasks nothing and still sees a hundred processes stop without a sleep. Only then does it sleep. It never waits
//! for the kernel's notification on the file: the kernel sends at most 100 a second, so a notification can come 10 ms
//! late, and a sleep of 1 ms does not.
//!
//! A freeze that is not confirmed in time is taken back before the error is returned, and one whose future is dropped
//! is taken back by the drop. Otherwise the kernel would freeze the container later, when no caller expects it.
//!
//! The descriptors are opened at the first use and kept. Opening them each time more than doubles the cost. Medians of
//! one interleaved run, in µs, unoptimised build: for one process, 17 for the bare write and read-back
//! (`cgroup::RawFreezer`), 20 here and 44 with reopening; for ten, 57, 59 and 84; for a hundred, where the kernel's own
//! work dominates, 452, 464 and 511. The price is two descriptors per container that was ever frozen. The descriptors
//! also keep referring to the same cgroup if its name is used again.

mod clock;
#[expect(
    clippy::module_inception,
    reason = "the file of the noun that the folder is about"
)]
mod freezer;
#[cfg(feature = "cli")]
mod raw;
mod state;
mod still_frozen;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

pub(crate) use self::clock::ThawCount;
pub(crate) use self::freezer::{Attempt, Freezer, Pending};
#[cfg(feature = "cli")]
pub(crate) use self::raw::RawFreezer;
#[cfg(test)]
pub(crate) use self::state::By;
pub(crate) use self::state::State;
pub(crate) use self::still_frozen::still_frozen;
