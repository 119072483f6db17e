//! cgroups as the kernel has them: layout, freezer, kill, out-of-memory kills, statistics.
//!
//! There are three layouts in practice, and [`Root::probe`] determines the host's once, from the mount table:
//!
//! ```text
//!            limits and statistics           freeze, kill, events
//! unified    /sys/fs/cgroup/PATH (v2)        the same directory
//! hybrid     /sys/fs/cgroup/memory/PATH …    /sys/fs/cgroup/unified/PATH (v2, no controllers needed)
//! v1         /sys/fs/cgroup/memory/PATH …    /sys/fs/cgroup/freezer/PATH (freezer.state), kill by signals alone
//! ```
//!
//! A container is a set of directories, [`Paths`], one per hierarchy. [`Root::of_pid`] never returns a directory that
//! contains this process or the whole machine, so this module cannot freeze or kill its caller. State is read from the
//! kernel each time; this module does not remember whether a container is frozen.
//!
//! The freezer is this crate's own code, for two reasons: a request (`cgroup.freeze`) is not a fact (`cgroup.events`),
//! and waiting for the kernel's notification is slow, because the kernel sends at most 100 a second per file. See
//! [`Freezer`].
//!
//! Detection and statistics do not use `cgroups-rs` either: that crate lists no cgroup2 mounts, looks for the unified
//! tree at one fixed path, and turns a missing file into the number 0, where callers of this module need `None` or
//! [`Error::Gone`]. On v1 controllers, where the crate is right, the tests compare these readers with it.
//!
//! This module depends on directories and files only, not on containerd, a plan or a container's phase.

mod ceilings;
mod driver;
mod error;
mod files;
mod freezer;
mod identity;
mod kill;
mod layout;
mod mounts;
mod oom;
mod paths;
mod places;
mod reclaim;
mod root;
mod stats;
mod ties;

#[cfg(test)]
mod testing;

pub(crate) use ceilings::{Ceilings, Rlimit};
pub use driver::{CgroupDriver, UnknownDriver};
pub(crate) use driver::{
    Choice, DEFAULT_PARENT, DEFAULT_SLICE, DriverSettings, Facts, Refused, choose, is_nested, is_slice,
};
pub(crate) use error::Error;
pub(crate) use files::whole as read_whole;
#[cfg(test)]
use freezer::By;
#[cfg(feature = "cli")]
pub(crate) use freezer::RawFreezer;
pub(crate) use freezer::{Attempt, Freezer, Pending, State, ThawCount, still_frozen};
pub(crate) use identity::CgroupIdentity;
pub(crate) use kill::kill_all;
pub(crate) use layout::{Controllers, Version};
pub(crate) use oom::{Above, LimitOwner, OomCount, OomLog, oom_kills};
pub(crate) use paths::Paths;
pub(crate) use places::{CgroupDirs, pids};
pub(crate) use reclaim::{Reclaimed, Reclaimer};
pub(crate) use root::Root;
#[cfg(test)]
pub(crate) use stats::Pressure;
pub(crate) use stats::{Cpu, Sample, Stall, processor_time, sample};
#[cfg(all(test, feature = "cli"))]
pub(crate) use stats::{Memory, Throttling};
pub(crate) use ties::{Tie, ties, tops};
