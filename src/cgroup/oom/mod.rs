//! Whether the kernel killed a container's processes for lack of memory, and whose limit was hit.
//!
//! Must be read before the container's cgroup is removed, because the counters are removed with it. Whose limit was hit
//! is determined only after a kill. The only preparation is [`Above::note`], which reads two small files for each level
//! above the container.

mod above;
mod count;
mod hits;
mod limit;
mod limit_owner;
mod log;

pub(crate) use self::above::Above;
pub(super) use self::count::kills;
pub(crate) use self::count::{OomCount, oom_kills};
pub(super) use self::limit::{limit_v1, limit_v2};
pub(crate) use self::limit_owner::LimitOwner;
pub(crate) use self::log::OomLog;
