//! What "an image is present" means: found by name, complete, unpacked, and known for what it says.
//!
//! ```text
//! a tar file ─► load ─► archive ─► oci_layout | docker_archive ─► content store ─┐
//! a registry ─► registry (HTTP) ─► pull: resolve, fetch ─────────► content store ─┤
//!                  ▲ credentials                                                 ▼
//! a name ─► reference ─► store: find ─► manifest ─► unpack ─► an Image ─► rootfs: users, programs
//! ```
//!
//! Everything that is created is under a lease until it is complete. Nothing is ever deleted but what a failed attempt has
//! left.

mod archive;
mod bounded;
mod cache;
mod credentials;
mod docker_archive;
mod error;
#[cfg(test)]
mod fixtures;
mod footprint;
mod load;
mod lookup;
mod manifest;
mod oci_layout;
mod platform;
mod pull;
mod reference;
mod registry;
mod rootfs;
mod scratch;
#[cfg(test)]
mod scratch_tests;
mod settings;
mod store;
#[cfg(test)]
mod tests;
mod turns;
mod unpack;

use self::store::MAX_JSON;
pub(crate) use cache::{Cache, CacheSettings, Pin};
pub(crate) use credentials::{Credential, Logins};
pub(crate) use error::Error;
pub(crate) use platform::Platform;
pub(crate) use pull::{Again, LayerProgress, LayerState, Progress, PullSettings, Puller, Pulling, Request};
pub(crate) use reference::{InvalidReference, Reference};
pub(crate) use registry::RegistrySettings;
pub(crate) use rootfs::{Lookup, Program};
pub(crate) use settings::{ImageSettings, refuses_volume};
pub(crate) use store::{Image, ImageStore};
