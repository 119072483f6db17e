//! The mounts of this process's mount namespace, as `/proc/self/mountinfo` shows them.

use std::path::Path;

/// The fields of one line of mountinfo that matter here.
#[derive(Debug)]
pub(crate) struct Mount<'a> {
    /// The device number, which is the same for every mount of one file system.
    pub(crate) device: &'a str,
    pub(crate) point: String,
    /// The options of this mount.
    pub(crate) flags: &'a str,
    pub(crate) kind: &'a str,
    /// The options of the file system.
    pub(crate) options: &'a str,
}

/// Returns the mounts in a mountinfo file; proc(5) describes its fields.
pub(crate) fn mounts(mountinfo: &str) -> impl DoubleEndedIterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let (mut before, mut after) = (before.split(' ').skip(2), after.split(' '));
        Some(Mount {
            device: before.next()?,
            point: unescape(before.nth(1)?),
            flags: before.next()?,
            kind: after.next()?,
            options: after.nth(1)?,
        })
    })
}

/// Undoes the kernel's octal escapes of the four characters that would break the fields of a line.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, real)| text.replace(code, real))
}

/// Returns the file system of a path: the last mount on the longest mount point above it.
pub(crate) fn file_system<'a>(mountinfo: &'a str, path: &Path) -> Option<Mount<'a>> {
    mounts(mountinfo)
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| Path::new(&mount.point).components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = include_str!("../fixtures/doctor/unified.mountinfo");

    #[test]
    fn a_path_is_on_the_innermost_mount_above_it() {
        let kind = |path| file_system(UNIFIED, Path::new(path)).unwrap().kind;
        assert_eq!(kind("/var/lib/fnctr"), "xfs");
        assert_eq!(kind("/var/library"), "ext4");
        assert_eq!(kind("/var/lib/with space/x"), "tmpfs");
    }
}
