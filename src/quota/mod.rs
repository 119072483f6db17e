//! Project quotas: how much a directory tree may hold, kept by the file system itself.
//!
//! XFS and ext4 count what belongs to a *project*, a number that every inode bears, and refuse to let it grow past a hard
//! limit. A directory with the inherit flag gives its number to whatever is made in it. So a tree is limited in two moves:
//! the directory gets a number that nobody else uses, and the number gets a limit.
//!
//! ```text
//! check(dir)                  does the file system enforce limits, and may this process set them?   makes nothing
//! limit([dir, dir], bytes)    claim a number for the directories ─► set its limit
//! release(dir)                take the limit of its number away; the number is free when the directories are gone
//! ```
//!
//! **How a number is claimed.** Nobody keeps a list of the numbers in use, and a lock file would only bind those who know
//! of it: several daemons, or several containers with a run directory each, may share one file system. The kernel counts
//! the inodes of each number, so it is asked: a number without any is put on our directories, and then the count must be
//! ours alone. Whoever finds it higher has met another claim and goes on elsewhere. The count is taken after the numbers
//! are written, so of two that meet at most one reads its own count alone.
//!
//! **What can be left behind.** A number is in use for exactly as long as an inode bears it, so it cannot leak. A limit
//! whose directories vanished without [`limited::release`] stays in the quota file. It limits nothing, and the next claim
//! of its number overwrites it: a claim asks for inodes, not for limits. The numbers come from one range of 65,536, so
//! this is bounded by about 9 MB of quota file on XFS, which never gives up a number's 136 bytes, limit or not.
//!
//! **What is not limited.** Bytes are, the number of files is not; and a limit reserves no space. On ext4 a process with
//! CAP_SYS_RESOURCE is above every limit. Who writes through an overlay is not, whatever the container may do: overlay
//! writes as the one who mounted it, less that capability (`ovl_fill_super`).
//!
//! Knows directories, mounts and the quota calls; never containerd, a plan or a container.

mod choice;
mod error;
mod file_system;
mod limited;
mod mount;
mod sys;
#[cfg(test)]
mod tests;

pub(crate) use error::Error;
pub(crate) use file_system::check;
pub(crate) use limited::{MOST, limit, release};
