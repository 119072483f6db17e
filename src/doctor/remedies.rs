//! Remedies that several checks name.

/// The remedy for a `/proc` that is missing or incomplete.
pub(super) const MOUNT_PROC: &str = "mount -t proc proc /proc";

/// The remedy for an old kernel: the newest one of the distribution.
pub(super) const NEWER_KERNEL: &str = "apt-get install -y linux-image-$(dpkg --print-architecture) && reboot";
