//! Whether files can be made where containers need them: free bytes, free inodes, and a writable file system.

use std::path::Path;

use super::Check;
use super::space::Space;
use crate::{ByteSize, mountinfo};

/// With less than this no container can be started.
const NO_BYTES: u64 = 1 << 20;
const NO_FILES: u64 = 16;
/// With less than this, containers will soon fail to start.
const FEW_BYTES: u64 = 16 << 20;
const FEW_FILES: u64 = 1000;

/// Whether there is room in a directory, which need not exist yet.
pub(super) fn check(name: &'static str, dir: &Path, mountinfo: &str, space: &Space) -> Check {
    if let Some(lack) = lack(name, dir, mountinfo, space) {
        return lack;
    }
    let free = space.free.map_or_else(
        || "an unknown number of bytes".to_owned(),
        |free| ByteSize(free >> 20 << 20).to_string(),
    );
    let files = space
        .files
        .map_or_else(|| "any number of".to_owned(), |files| files.to_string());
    let found = format!("{} has room for {free} and {files} files", dir.display());
    let few = space.free.is_some_and(|free| free < FEW_BYTES);
    match space.files {
        Some(files) if files < FEW_FILES => Check::warn(name, found, more_files(mountinfo, space)),
        _ if few => Check::warn(name, found, fewer_bytes(mountinfo, space)),
        _ => Check::ok(name, found),
    }
}

/// Reports what prevents new files in a directory, if anything does.
pub(super) fn lack(name: &'static str, dir: &Path, mountinfo: &str, space: &Space) -> Option<Check> {
    let at = dir.display();
    if space.read_only {
        let found =
            format!("{at} is on a file system that is mounted read-only, so no container can be started");
        let mend = format!("mount -o remount,rw {}", point(mountinfo, space));
        return Some(Check::bad(name, found, mend));
    }
    if let Some(files) = space.files.filter(|files| *files < NO_FILES) {
        let found = format!("{at} has room for {files} more files (inodes), so no container can be started");
        return Some(Check::bad(name, found, more_files(mountinfo, space)));
    }
    let free = space.free.filter(|free| *free < NO_BYTES)?;
    let found = format!("{at} has {} free, so no container can be started", ByteSize(free));
    Some(Check::bad(name, found, fewer_bytes(mountinfo, space)))
}

/// Returns the remedy for missing inodes: a tmpfs can be given more; on other file systems the user must find files to
/// remove.
fn more_files(mountinfo: &str, space: &Space) -> String {
    let point = point(mountinfo, space);
    let kind = mountinfo::file_system(mountinfo, &space.dir).map(|mount| mount.kind);
    if kind == Some("tmpfs") {
        return format!("mount -o remount,nr_inodes=0 {point}");
    }
    format!("remove files where there are most: du --inodes -x {point} | sort -n | tail")
}

fn fewer_bytes(mountinfo: &str, space: &Space) -> String {
    let point = point(mountinfo, space);
    format!("remove the largest files: du -xm {point} | sort -n | tail")
}

fn point(mountinfo: &str, space: &Space) -> String {
    let mount = mountinfo::file_system(mountinfo, &space.dir);
    mount.map_or_else(|| space.dir.display().to_string(), |mount| mount.point)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    const MOUNTS: &str = "1 0 0:1 / / rw - ext4 none rw\n2 1 0:2 / /run rw - tmpfs none rw\n";

    fn room(dir: &str, space: Space) -> Check {
        let space = Space {
            dir: dir.into(),
            ..space
        };
        check("run", &Path::new(dir).join("fnctr"), MOUNTS, &space)
    }

    fn roomy() -> Space {
        Space {
            free: Some(1 << 30),
            files: Some(1 << 20),
            ..Space::default()
        }
    }

    #[test]
    fn room_is_reported_in_bytes_and_files() {
        let check = room("/run", roomy());
        assert_eq!(check.status, Status::Ok);
        assert_eq!(check.found, "/run/fnctr has room for 1g and 1048576 files");
        // As on btrfs, which creates inodes on demand.
        let endless = Space {
            files: None,
            ..roomy()
        };
        assert!(room("/run", endless).found.ends_with("any number of files"));
    }

    #[test]
    fn each_lack_has_the_remedy_that_helps_there() {
        let space = |free, files, read_only| Space {
            free: Some(free),
            files: Some(files),
            read_only,
            ..Space::default()
        };
        for (dir, space, status, mend) in [
            (
                "/run",
                space(1 << 30, 0, false),
                Status::Bad,
                "mount -o remount,nr_inodes=0 /run",
            ),
            (
                "/run",
                space(1 << 30, 999, false),
                Status::Warn,
                "mount -o remount,nr_inodes=0 /run",
            ),
            ("/", space(1 << 30, 0, false), Status::Bad, "du --inodes -x / "),
            ("/run", space(0, 1 << 20, false), Status::Bad, "du -xm /run "),
            ("/", space(2 << 20, 1 << 20, false), Status::Warn, "du -xm / "),
            (
                "/run",
                space(1 << 30, 1 << 20, true),
                Status::Bad,
                "mount -o remount,rw /run",
            ),
        ] {
            let check = room(dir, space);
            assert_eq!(check.status, status, "{check}");
            assert!(
                check.mend.as_deref().unwrap_or_default().contains(mend),
                "{check}"
            );
        }
    }
}
