//! The pages of containers.

mod attach;
mod body;
mod create;
mod front;
mod inspect;
mod labels;
mod lifecycle;
mod list;
mod log_driver;
mod mounts;
mod names;
mod plan;
mod ports;
mod remove;
mod rename;
mod running;
mod start;
mod state;
mod stats;
mod top;
mod unsupported;
mod view;
mod wait;

pub(super) use self::attach::attach;
pub(super) use self::create::create;
pub(super) use self::front::Front;
pub(super) use self::inspect::inspect;
pub(super) use self::labels::shown;
pub(super) use self::lifecycle::{kill, pause, restart, stop, unpause};
pub(super) use self::list::list;
pub(super) use self::remove::{prune, remove, remove_ended};
pub(super) use self::rename::rename;
pub(super) use self::start::{logs, start};
pub(super) use self::stats::stats;
pub(super) use self::top::top;
pub(super) use self::wait::wait;
