//! cgroups as the kernel has them: layout, freezer, kill, out-of-memory kills, statistics.
//!
//! Three layouts are real, and [`Root::probe`] tells them apart once, from the mount table:
//!
//! ```text
//!            limits and statistics           freeze, kill, events
//! unified    /sys/fs/cgroup/PATH (v2)        the same directory
//! hybrid     /sys/fs/cgroup/memory/PATH …    /sys/fs/cgroup/unified/PATH (v2, no controllers needed)
//! v1         /sys/fs/cgroup/memory/PATH …    /sys/fs/cgroup/freezer/PATH (freezer.state), kill by signals alone
//! ```
//!
//! A container is a set of directories, [`Paths`], one per hierarchy. [`Root::of_pid`] never returns a directory that
//! this process or the whole machine lives in, so nothing here can freeze or kill its caller. State is read from the
//! kernel each time; nothing here remembers whether a container is frozen.
//!
//! The freezer is our own code, because a request (`cgroup.freeze`) is not a fact (`cgroup.events`) and waiting for a
//! notification is a trap: the kernel sends at most 100 a second per file. See [`Freezer`].
//!
//! Detection and statistics are read here too and not through `cgroups-rs`: that crate lists no cgroup2 mounts, looks
//! for the unified tree at one fixed path, and turns a file that vanished into the number 0, where this module owes its
//! callers `None` or [`Error::Gone`]. On v1 controllers, where it is right, the tests hold these readers against it.
//!
//! Knows directories and files, never containerd, a plan or a container's phase.

mod ceilings;
mod driver;
mod error;
mod files;
mod freezer;
mod freezer_clock;
mod freezer_v1;
mod freezer_v2;
mod kill;
mod mounts;
mod oom;
mod oom_log;
mod paths;
mod places;
#[cfg(feature = "cli")]
mod raw;
mod reclaim;
mod root;
mod standing;
mod stats;
mod stats_parse;
mod ties;

#[cfg(test)]
mod freezer_tests;
#[cfg(test)]
mod testing;

pub(crate) use ceilings::{Ceilings, Rlimit};
pub use driver::{CgroupDriver, UnknownDriver};
pub(crate) use driver::{
    Choice, DEFAULT_PARENT, DEFAULT_SLICE, Facts, Refused, Wanted, choose, is_nested, is_slice,
};
pub(crate) use error::Error;
pub(crate) use files::whole as read_whole;
#[cfg(test)]
use freezer::By;
pub(crate) use freezer::{Attempt, Freezer, Pending, State};
pub(crate) use freezer_clock::Turns;
pub(crate) use kill::kill_all;
pub(crate) use oom::{Above, OomCount, Whose, oom_kills};
pub(crate) use oom_log::OomLog;
pub(crate) use paths::Paths;
pub(crate) use places::Places;
#[cfg(feature = "cli")]
pub(crate) use raw::Raw;
pub(crate) use reclaim::{Reclaimed, Reclaimer};
pub(crate) use root::{Root, Version};
pub(crate) use standing::standing;
pub(crate) use stats::{processor_time, sample};
#[cfg(test)]
pub(crate) use stats_parse::Pressure;
pub(crate) use stats_parse::{Cpu, Sample, Stall};
#[cfg(all(test, feature = "cli"))]
pub(crate) use stats_parse::{Memory, Throttling};
pub(crate) use ties::{Tie, ties, tops};
