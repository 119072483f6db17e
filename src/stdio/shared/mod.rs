//! Streams of a container that any number of readers and writers share: all of them come and go without the container
//! noticing.

mod backlog;
mod hub;
mod input;
mod socket;
mod tee;
#[cfg(test)]
mod tests;

pub(crate) use backlog::{Chunk, Over, Wants};
pub(crate) use hub::{Hub, Listener};
pub(crate) use input::{InputWriter, SharedInput};
pub(crate) use socket::{Remote, RemoteListener, StreamsLock, WeakStreamsLock};
pub(crate) use tee::Tee;
