//! Which images stay on a machine whose space for them is limited. Does no I/O: its users list, measure and remove.

mod names;
mod policy;

pub(crate) use self::names::Names;
pub(crate) use self::policy::Policy;
