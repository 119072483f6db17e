//! The events of containers, images and networks: a bounded log in a directory, which every process of an instance
//! writes, and which a reader can replay and then follow.
//!
//! A reader that replays and then follows reads one file after the other, so it sees each event once. An event that
//! cannot be written (because the disk is full) is lost; the operation that it reports is not affected.

mod event;
mod files;
mod follow;
mod log;
#[cfg(test)]
mod tests;

pub(crate) use event::{Action, Event, Kind};
pub(crate) use follow::{Follower, Next};
pub(crate) use log::EventLog;
