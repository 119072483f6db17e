//! A resolver for one container: it answers the names of the containers on the same network, and passes every other question on
//! to the host's resolvers.
//!
//! The sockets are in the network namespace of the container, so nobody else can ask; what is passed on leaves from the host's.
//! Everything that a container can make it do is bounded: questions at once, connections, their length and time.

mod answer;
mod forward;
mod names;
mod serve;
mod tcp;

pub(crate) use self::names::Names;
pub(crate) use self::serve::serve;
