//! What "an image is present" means: it is found by name, complete and unpacked, and its configuration has been read.
//!
//! ```text
//! a tar file ─► load ─► archive ─► oci_layout | docker_archive ─► content store ─┐
//! a registry ─► registry (HTTP) ─► pull: resolve, fetch ─────────► content store ─┤
//!                  ▲ credentials                                                 ▼
//! a name ─► reference ─► store: find ─► manifest ─► unpack ─► an Image ─► rootfs: users, programs
//! ```
//!
//! Everything that is created is held by a lease until it is complete. `stored_images` lists, names and removes the
//! images of this host and `save` exports them; where a limit is set, `cache` removes unused images automatically.

mod abandoned_leases;
mod archive;
mod bare;
mod binfmt;
mod bounded;
mod cache;
mod contents;
mod error;
mod etc;
mod exec;
mod facts;
#[cfg(test)]
pub(crate) mod fixtures;
mod footprint;
mod freed;
mod left_views;
mod load;
mod lookup;
mod manifest;
mod pattern;
mod plain;
mod platform;
mod pull;
mod reference;
mod registry;
mod remembered;
mod rootfs;
mod save;
mod scratch;
#[cfg(test)]
mod scratch_tests;
mod settings;
mod store;
mod stored_images;
#[cfg(test)]
mod tests;
mod turns;
mod unnamed;
mod unpack;
mod walk;

use self::store::MAX_JSON;
pub(crate) use crate::credentials::{Credential, Logins};
pub(crate) use abandoned_leases::AbandonedLeases;
pub(crate) use cache::{Cache, CacheSettings, Hold, Pin};
pub(crate) use error::Error;
pub(crate) use left_views::remove_left_views;
pub(crate) use load::Loaded;
pub(crate) use pattern::refers;
pub(crate) use platform::Platform;
pub(crate) use pull::{
    Again, LayerProgress, LayerState, OnEnd, Progress, PullSettings, Puller, Pulling, Request,
};
pub(crate) use reference::{InvalidReference, Reference};
pub(crate) use registry::RegistrySettings;
pub(crate) use rootfs::{Entry, Etc, Lookup, NotExecutable, Ownership, Place, Program};
pub(crate) use save::Format;
pub(crate) use settings::{ImageHealth, ImageSettings, refuses_volume};
pub(crate) use store::{Image, ImageStore};
pub(crate) use stored_images::{Removed, StoredImage, StoredImages};
