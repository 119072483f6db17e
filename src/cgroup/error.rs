//! Errors of the cgroup file system, one variant for each failure that callers handle differently.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why an operation on a cgroup failed.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is read as cgroup::Error")]
pub(crate) enum Error {
    /// The cgroup was removed: its container ended. A caller that wanted the container to end treats this as success.
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
    /// Not every process stopped in time. The freeze was taken back, so the cgroup runs.
    #[error("cgroup {} did not freeze within {limit:?} and runs on", path.display())]
    NotFrozen {
        /// The cgroup.
        path: PathBuf,
        /// How long was allowed.
        limit: Duration,
    },
    /// Some process is still frozen, for example because a cgroup above this one is frozen.
    #[error("cgroup {} did not thaw within {limit:?}", path.display())]
    NotThawed {
        /// The cgroup.
        path: PathBuf,
        /// How long was allowed.
        limit: Duration,
    },
    /// The kernel or the cgroup layout lacks the file that the operation needs.
    #[error("cgroup {} cannot {what}: this kernel or cgroup layout has no {file}", path.display())]
    Unsupported {
        /// The cgroup.
        path: PathBuf,
        /// What cannot be done, as a verb: freeze, kill.
        what: &'static str,
        /// The file that is missing.
        file: &'static str,
    },
    /// The process is only in cgroups that it shares with this process or with the whole machine.
    #[error(
        "process {pid} has no cgroup of its own, so it cannot be frozen, killed or measured as a container"
    )]
    NotContained {
        /// The process.
        pid: u32,
    },
    /// The path does not name a cgroup below the root, or names one that contains this process.
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
    /// The kernel wrote a text that this code cannot read.
    #[error("{} holds no {what}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the text should contain.
        what: &'static str,
    },
    /// Reading or writing failed for another reason.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What failed, as a verb: open, read, write.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Classifies a failed system call on `file` of the cgroup `dir`. For a removed cgroup the call fails with ENOENT
    /// if it opens the file, and with ENODEV if the file is already open.
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

/// Whether the error means that the cgroup or process behind a file does not exist.
pub(super) fn is_gone(error: &io::Error) -> bool {
    const ENODEV: i32 = nix::errno::Errno::ENODEV as i32;
    const ESRCH: i32 = nix::errno::Errno::ESRCH as i32;
    error.kind() == io::ErrorKind::NotFound || matches!(error.raw_os_error(), Some(ENODEV | ESRCH))
}

/// Whether there is nothing to read: the file is gone ([`is_gone`]), or its feature was switched off at boot. With
/// `psi=0` the pressure files of cgroups exist, but reading them fails with EOPNOTSUPP (`psi_show` in
/// kernel/sched/psi.c).
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
