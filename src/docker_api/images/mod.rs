//! The pages of images.

mod archive;
mod change;
mod pull;
mod read;

pub(super) use self::archive::{load, save};
pub(super) use self::change::{prune, remove, tag};
pub(super) use self::pull::pull;
pub(super) use self::read::{history, inspect, list};
