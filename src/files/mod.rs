//! The files of a container: looked at, packed into a tar archive, and unpacked from one.
//!
//! Nothing here trusts a path or a link of the container. A path is looked up by `openat2(2)` beneath the container's root
//! (`RESOLVE_IN_ROOT`, without magic links), and everything below it relative to the descriptor of its directory, without
//! following links. A container that swaps a directory for a link in the middle of a copy leads the copy to another of
//! its own files, and never to the host's.
//!
//! The root is that of the container's process, with all mounts that the process sees; or, for a container that does not
//! run, its layers and mounts in a mount namespace that lives as long as the [`Root`], so that nothing can be left mounted.
//!
//! Every function blocks: a file system of the container may never answer.

mod beneath;
mod copy;
mod entry_name;
mod error;
mod mount;
mod pack;
mod path;
mod remove;
mod root;
mod stat;
mod unpack;

pub(crate) use self::copy::copy_tree;
pub(crate) use self::error::Error;
pub(crate) use self::mount::{Layers, MountedFile};
pub(crate) use self::pack::pack;
pub(crate) use self::path::ContainerPath;
pub(crate) use self::root::Root;
pub(crate) use self::stat::FileStat;
pub(crate) use self::unpack::{Unpacking, unpack};
