//! The pages of execs: additional processes in containers that run.

mod create;
mod inspect;
mod start;

pub(super) use self::create::create;
pub(super) use self::inspect::inspect;
pub(super) use self::start::{resize, start};
