//! The pages of networks.

mod change;
mod create;
mod known;
mod read;
mod view;

pub(super) use self::change::{prune, remove};
pub(super) use self::create::create;
pub(super) use self::known::{Known, configured_name};
pub(super) use self::read::{endpoint_id, inspect, list};
