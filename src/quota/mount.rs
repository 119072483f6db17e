//! The mount that a directory is reached through, from the kernel's mount table. Pure.
//!
//! The mount is found by its number, not by its path: with bind mounts, mounts on top of mounts and btrfs subvolumes,
//! the longest mount point that is a prefix of a path need not be the one that the path leads through.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo`, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The mount point.
    pub(super) point: PathBuf,
    /// The file system's type, as in `xfs`.
    pub(super) kind: String,
    /// What is mounted: the path of a block device, or a word such as `tmpfs`.
    pub(super) source: PathBuf,
}

impl Mount {
    /// Returns the mount of this number in the text of a mountinfo file.
    pub(super) fn find(mountinfo: &[u8], id: u64) -> Option<Self> {
        let mut lines = mountinfo.split(|byte| *byte == b'\n');
        lines.find_map(|line| {
            parse(line)
                .filter(|(found, _)| *found == id)
                .map(|(_, mount)| mount)
        })
    }
}

impl Mount {
    /// The mount of a directory that is not in the table: the directory itself stands for the mount point.
    pub(super) fn unknown(dir: &Path) -> Self {
        Self {
            point: dir.to_owned(),
            kind: "an unknown file system".to_owned(),
            source: PathBuf::new(),
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.kind, self.point.display())
    }
}

/// Returns the number of the mount that an open file was reached through, from `/proc/self/fdinfo/N` (`mnt_id`, since
/// Linux 3.15).
pub(super) fn id_in(fdinfo: &str) -> Option<u64> {
    let value = fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    value.trim().parse().ok()
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - xfs /dev/vdb rw,prjquota` (proc_pid_mountinfo(5)).
fn parse(line: &[u8]) -> Option<(u64, Mount)> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let id = std::str::from_utf8(words.first()?).ok()?.parse().ok()?;
    // The number of optional fields varies; a lone dash ends them. Spaces within a field are escaped.
    let dash = words.iter().skip(6).position(|word| *word == b"-")? + 6;
    let mount = Mount {
        point: unescape(words.get(4)?).into(),
        kind: unescape(words.get(dash + 1)?).into_string().ok()?,
        source: unescape(words.get(dash + 2)?).into(),
    };
    Some((id, mount))
}

/// Undoes the kernel's octal escapes of space, tab, newline, backslash and `#`.
fn unescape(field: &[u8]) -> OsString {
    let mut parts = field.split(|byte| *byte == b'\\');
    let mut bytes = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let octal = part
            .split_at_checked(3)
            .and_then(|(digits, rest)| Some((code(digits)?, rest)));
        match octal {
            Some((byte, rest)) => {
                bytes.push(byte);
                bytes.extend(rest);
            }
            None => {
                bytes.push(b'\\');
                bytes.extend(part);
            }
        }
    }
    OsString::from_vec(bytes)
}

fn code(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(OsStr::from_bytes(digits).to_str()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
        31 22 254:16 / /data rw shared:7 master:2 - xfs /dev/vdb rw,attr2,prjquota\n\
        40 22 254:16 /containers /var/lib/containerd rw - xfs /dev/vdb rw,attr2,prjquota\n\
        41 22 0:44 /@sub /srv/a\\040b\\134c rw - btrfs /dev/vdc rw,subvol=/@sub\n\
        42 40 0:51 / /var/lib/containerd rw - tmpfs tmpfs rw\n";

    fn found(id: u64) -> String {
        Mount::find(TABLE, id).unwrap().to_string()
    }

    #[test]
    fn a_mount_is_found_by_its_number_whatever_lies_on_or_beside_it() {
        assert_eq!(found(40), "xfs at /var/lib/containerd");
        assert_eq!(found(42), "tmpfs at /var/lib/containerd");
        assert_eq!(found(22), "ext4 at /");
        assert_eq!(Mount::find(TABLE, 4), None);
        assert_eq!(Mount::find(TABLE, 31).unwrap().source, PathBuf::from("/dev/vdb"));
    }

    #[test]
    fn escapes_are_undone_and_what_is_none_is_left() {
        assert_eq!(found(41), r"btrfs at /srv/a b\c");
        assert_eq!(unescape(br"\9\04x\\"), r"\9\04x\\");
        assert_eq!(unescape(br"a\012"), "a\n");
        assert_eq!(unescape(b""), "");
    }

    #[test]
    fn the_number_of_a_mount_is_read_from_an_open_file() {
        assert_eq!(
            id_in("pos:\t0\nflags:\t02000000\nmnt_id:\t31\nino:\t2\n"),
            Some(31)
        );
        assert_eq!(id_in("pos:\t0\n"), None);
    }

    #[test]
    fn lines_that_are_no_mounts_are_passed_over() {
        for text in [&b"garbage\n1 2 3 - xfs"[..], b"\xff\xfe", b"1 2 3 4 5 6 7 8", b""] {
            assert_eq!(Mount::find(text, 1), None);
        }
    }
}
