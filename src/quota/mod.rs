//! Project quotas: how much a directory tree may hold, enforced by the file system itself.
//!
//! XFS and ext4 count the usage of a *project*, a number that every inode has, and refuse to let it grow past a hard
//! limit. A directory with the inherit flag passes its number on to everything created in it. So a tree is limited in
//! two steps: the directory gets a number that is not in use elsewhere, and the number gets a limit.
//!
//! ```text
//! check(dir)                  does the file system enforce limits, and may this process set them?   makes nothing
//! limit([dir, dir], bytes)    claim a number for the directories ─► set its limit
//! release(dir)                take the limit of its number away; the number is free when the directories are gone
//! ```
//!
//! **How a number is claimed.** There is no list of the numbers in use, and a lock file would bind only the processes
//! that use it: several daemons, or several containers with a run directory each, may share one file system. But the
//! kernel counts the inodes of each number: a claim puts a number without inodes on its directories, and then the count
//! must be that of its directories alone. A claim that finds a higher count has met another claim and tries another
//! number. The count is read after the numbers are written, so of two claims that meet at most one reads only its own
//! count.
//!
//! **What can be left behind.** A number is in use for exactly as long as an inode has it, so it cannot leak. A limit
//! whose directories were removed without [`limited::release`] stays in the quota file. It limits nothing, and the next
//! claim of its number overwrites it: a claim looks at inodes, not at limits. The numbers come from one range of
//! 65,536, so this is bounded by about 9 MB of quota file on XFS, which never frees the 136 bytes of a number, with or
//! without a limit.
//!
//! **What is not limited.** Only bytes are limited, not the number of files; and a limit reserves no space. On ext4 no
//! limit applies to a process with CAP_SYS_RESOURCE. Limits do apply to a process that writes through an overlay,
//! whatever its container may do: overlay writes with the credentials of the process that mounted it, without that
//! capability (`ovl_fill_super`).
//!
//! This module handles directories, mounts and the quota calls, and never containerd, a plan or a container.

mod choice;
mod error;
mod file_system;
mod limited;
mod mount;
#[cfg(test)]
mod tests;

pub(crate) use error::Error;
pub(crate) use file_system::check;
pub(crate) use limited::{MOST, limit, release};
