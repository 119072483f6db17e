//! What "an image is present" means: found by name, complete, unpacked, and known for what it says.
//!
//! ```text
//! a tar file ─► load ─► archive ─► oci_layout | docker_archive ─► content store ─┐
//!                                                                              ▼
//! a name ─► reference ─► store: find ─► manifest ─► unpack ─► an Image ─► rootfs: users, programs
//! ```
//!
//! Everything that is created is under a lease until it is complete. Nothing here pulls, and nothing is ever deleted
//! but what a failed attempt has left.

mod archive;
mod bounded;
mod docker_archive;
mod error;
#[cfg(test)]
mod fixtures;
mod load;
mod lookup;
mod manifest;
mod oci_layout;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "registry, repository and tag are for whoever pulls")
)]
mod reference;
mod rootfs;
mod scratch;
mod settings;
mod store;
#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use error::Error;
pub(crate) use reference::{InvalidReference, Reference};
pub(crate) use rootfs::{Lookup, Program};
pub(crate) use settings::{ImageSettings, refuses_volume};
pub(crate) use store::{Image, ImageStore};
