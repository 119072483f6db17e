//! Why a directory cannot be limited: what is missing, where, and what would help.

use std::io;
use std::path::{Path, PathBuf};

use super::choice::{COUNT, FIRST};
use super::mount::Mount;

/// Why an operation on project quotas failed.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is read as quota::Error")]
pub(crate) enum Error {
    /// The file system has no project quotas, or was mounted without them.
    #[error("{mount} has no project quotas; {}", self.remedy().unwrap_or_default())]
    Without {
        /// The mount of the directory.
        mount: Mount,
    },
    /// The file system counts projects, but does not enforce their limits.
    #[error(
        "{mount} counts project quotas but does not enforce them; {}",
        self.remedy().unwrap_or_default()
    )]
    NotEnforced {
        /// The mount of the directory.
        mount: Mount,
    },
    /// The kernel lets only the host's administrator set quotas.
    #[error(
        "this process may not set project quotas on {mount}; {}",
        self.remedy().unwrap_or_default()
    )]
    NotPermitted {
        /// The mount of the directory.
        mount: Mount,
        /// The error that the kernel returned.
        #[source]
        cause: io::Error,
    },
    /// The directory does not exist, or cannot be seen from the mount namespace of this process.
    #[error(
        "directory {} cannot be seen from here; {}",
        path.display(),
        self.remedy().unwrap_or_default()
    )]
    OutOfSight {
        /// The directory.
        path: PathBuf,
    },
    /// The directory contains something that its project would not count, or an overlay is mounted with it already.
    #[error("directory {} is not new: it has contents", path.display())]
    NotNew {
        /// The directory.
        path: PathBuf,
    },
    /// Every number that fnctr uses has files already.
    #[error("all {COUNT} projects from {FIRST} on are in use on {mount}")]
    NoneFree {
        /// The mount of the directory.
        mount: Mount,
    },
    /// Old kernels identify the file system by its block device, which was not found.
    #[error(
        "the block device of {mount} cannot be found ({} is not that device), and this kernel needs it for quotas; {}",
        mount.source.display(),
        self.remedy().unwrap_or_default()
    )]
    NoDevice {
        /// The mount of the directory.
        mount: Mount,
    },
    /// Any other error.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// The operation, as a verb.
        op: &'static str,
        /// The path that the operation was for.
        path: PathBuf,
        /// The cause.
        #[source]
        cause: io::Error,
    },
}

impl Error {
    pub(super) fn io(op: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io {
            op,
            path: path.to_owned(),
            cause,
        }
    }

    /// Whether this host cannot set limits, as opposed to a single operation that went wrong.
    pub(crate) fn is_unsupported(&self) -> bool {
        self.remedy().is_some()
    }

    /// Returns what an administrator can do about the error, if anything.
    pub(crate) fn remedy(&self) -> Option<String> {
        let (mount, unmounted) = match self {
            Self::Without { mount } => (mount, true),
            Self::NotEnforced { mount } => (mount, false),
            Self::NotPermitted { .. } => {
                return Some(
                    "that takes CAP_SYS_ADMIN on the host: run it as root, outside of containers".into(),
                );
            }
            Self::OutOfSight { .. } => {
                return Some("run this process in the mount namespace in which it was made".into());
            }
            Self::NoDevice { .. } => {
                return Some("mount it by the path of its device, or have udev make /dev/block".into());
            }
            Self::NotNew { .. } | Self::NoneFree { .. } | Self::Io { .. } => return None,
        };
        let (source, root) = (mount.source.display(), mount.point == Path::new("/"));
        Some(match mount.kind.as_str() {
            // Neither kind of file system is changed while it is in use, and a root file system cannot be unmounted:
            // xfs(5) turns quotas on at the first mount only, tune2fs(8) adds the feature only to an unmounted file
            // system.
            "xfs" if root => "boot with rootflags=prjquota".to_owned(),
            "xfs" => format!("unmount {source} and mount it with -o prjquota"),
            "ext4" if unmounted && !root => format!(
                "unmount {source}, run tune2fs -O project,quota -Q prjquota {source}, and mount it with -o prjquota"
            ),
            "ext4" if !root => format!("unmount {source} and mount it with -o prjquota"),
            _ => "an XFS or ext4 mounted with -o prjquota would do".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(kind: &str) -> Mount {
        Mount {
            point: "/data".into(),
            kind: kind.to_owned(),
            source: "/dev/vdb".into(),
        }
    }

    #[test]
    fn what_is_missing_is_reported_with_its_mount_and_its_remedy() {
        let cases = [
            ("xfs", "unmount /dev/vdb and mount it with -o prjquota"),
            ("ext4", "tune2fs -O project,quota -Q prjquota /dev/vdb"),
            ("btrfs", "an XFS or ext4 mounted with -o prjquota"),
        ];
        for (kind, help) in cases {
            let said = Error::Without { mount: on(kind) }.to_string();
            let start = format!("{kind} at /data has no project quotas; ");
            assert!(said.starts_with(&start) && said.contains(help), "{said}");
        }
        // Advice that cannot be followed is not given.
        for kind in ["xfs", "ext4"] {
            let mount = Mount {
                point: "/".into(),
                ..on(kind)
            };
            let said = Error::Without { mount }.to_string();
            assert!(!said.contains("unmount") && said.contains("prjquota"), "{said}");
        }
        let said = Error::NotEnforced { mount: on("ext4") }.to_string();
        assert!(
            said.contains("does not enforce") && !said.contains("tune2fs"),
            "{said}"
        );
    }

    #[test]
    fn a_host_without_support_is_distinguished_from_a_failure() {
        let cause = || io::Error::from_raw_os_error(1);
        assert!(Error::Without { mount: on("xfs") }.is_unsupported());
        assert!(
            Error::NotPermitted {
                mount: on("xfs"),
                cause: cause()
            }
            .is_unsupported()
        );
        assert!(Error::OutOfSight { path: "/x".into() }.is_unsupported());
        assert!(!Error::NoneFree { mount: on("xfs") }.is_unsupported());
        assert!(!Error::io("open", Path::new("/x"), cause()).is_unsupported());
    }
}
