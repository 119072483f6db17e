//! What can go wrong between this process and the cgroup file system, as far as a caller acts on the difference.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why an operation on a cgroup failed.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is read as cgroup::Error")]
pub(crate) enum Error {
    /// The cgroup was removed: its container ended. Whoever wanted it to end treats this as success.
    #[error("cgroup {} no longer exists", path.display())]
    Gone {
        /// The directory that was there.
        path: PathBuf,
    },
    /// The process ended before its cgroup could be read.
    #[error("process {pid} no longer exists")]
    NoProcess {
        /// The process.
        pid: u32,
    },
    /// Not every process stopped in time. The request was taken back, and the cgroup runs.
    #[error("cgroup {} did not freeze within {limit:?} and runs on", path.display())]
    NotFrozen {
        /// The cgroup.
        path: PathBuf,
        /// How long was allowed.
        limit: Duration,
    },
    /// Some process still stands, for example because a cgroup above is frozen.
    #[error("cgroup {} did not thaw within {limit:?}", path.display())]
    NotThawed {
        /// The cgroup.
        path: PathBuf,
        /// How long was allowed.
        limit: Duration,
    },
    /// The kernel or the layout lacks a file for this.
    #[error("cgroup {} cannot {what}: this kernel or cgroup layout has no {file}", path.display())]
    Unsupported {
        /// The cgroup.
        path: PathBuf,
        /// A verb: freeze, kill.
        what: &'static str,
        /// The file that is missing.
        file: &'static str,
    },
    /// A process lives nowhere but in cgroups that it shares with this process or with the whole machine.
    #[error(
        "process {pid} has no cgroup of its own, so it cannot be frozen, killed or measured as a container"
    )]
    NotContained {
        /// The process.
        pid: u32,
    },
    /// A path that does not name a cgroup below the root, or one that this process itself is in.
    #[error("{path:?} is not a cgroup that a container can have: {why}")]
    BadPath {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted on this host")]
    NoCgroups,
    /// The kernel wrote something that this code cannot read.
    #[error("{} holds no {what}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Reading or writing failed for another reason.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// A verb: open, read, write.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Sorts a failed system call on `file` of the cgroup `dir`: a removed cgroup answers ENOENT to an open and ENODEV
    /// to a file that is open already.
    pub(super) fn io(op: &'static str, dir: &Path, file: &str, source: io::Error) -> Self {
        if is_gone(&source) {
            Self::Gone { path: dir.to_owned() }
        } else {
            Self::Io {
                op,
                path: dir.join(file),
                source,
            }
        }
    }

    /// Whether the container ended.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::NoProcess { .. })
    }
}

/// Whether the kernel says that the cgroup or process behind a file does not exist.
pub(super) fn is_gone(error: &io::Error) -> bool {
    const ENODEV: i32 = nix::errno::Errno::ENODEV as i32;
    const ESRCH: i32 = nix::errno::Errno::ESRCH as i32;
    error.kind() == io::ErrorKind::NotFound || matches!(error.raw_os_error(), Some(ENODEV | ESRCH))
}

/// Whether there is nothing to read: what [`is_gone`] says, or a file of a feature that was switched off at boot. With
/// `psi=0` the pressure files of cgroups are there and answer EOPNOTSUPP (`psi_show` in kernel/sched/psi.c).
pub(super) fn is_absent(error: &io::Error) -> bool {
    const EOPNOTSUPP: i32 = nix::errno::Errno::EOPNOTSUPP as i32;
    is_gone(error) || error.raw_os_error() == Some(EOPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_that_is_switched_off_is_absent_and_not_gone() {
        use nix::errno::Errno;
        let of = |errno: Errno| io::Error::from_raw_os_error(errno as i32);
        assert!(is_absent(&of(Errno::EOPNOTSUPP)) && !is_gone(&of(Errno::EOPNOTSUPP)));
        for gone in [Errno::ENOENT, Errno::ENODEV, Errno::ESRCH] {
            assert!(is_absent(&of(gone)) && is_gone(&of(gone)), "{gone}");
        }
        assert!(!is_absent(&of(Errno::EACCES)) && !is_absent(&of(Errno::EIO)));
    }
}
