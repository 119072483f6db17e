//! Tests of project quotas on a real file system. `FNCTR_TEST_XFS` names a directory on a file system that has them;
//! without the variable these tests report that they were skipped.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;

use super::choice;
use super::file_system::FileSystem;
use super::limited::claim;
use super::{Error, check, limit, release};

/// A directory on the file system to test on, removed at the end.
fn scratch(test: &str) -> Option<tempfile::TempDir> {
    let Some(dir) = std::env::var_os("FNCTR_TEST_XFS") else {
        // Written past the capture of a test's output, so that a skip is not mistaken for a success.
        let line = format!("\n!!! SKIPPED {test}: FNCTR_TEST_XFS names no file system with project quotas\n");
        drop(std::io::stderr().write_all(line.as_bytes()));
        return None;
    };
    Some(tempfile::tempdir_in(dir).unwrap())
}

fn make(dir: &Path) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    dir.to_owned()
}

/// Writes until the kernel refuses or `most` bytes are written, and returns how many were written. Not as root: ext4
/// does not limit CAP_SYS_RESOURCE.
fn fill(file: &Path, most: u64) -> u64 {
    use std::os::unix::process::CommandExt as _;

    let dir = file.parent().unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    let out = Command::new("dd")
        .args(["if=/dev/zero", "bs=16k", "conv=fsync"])
        .arg(format!("of={}", file.display()))
        .arg(format!("count={}", most >> 14))
        .env("LC_ALL", "C")
        .uid(1000)
        .gid(1000)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    // The messages for XFS and for ext4.
    let refused = ["No space left on device", "Disk quota exceeded"];
    assert!(
        out.status.success() || refused.iter().any(|words| said.contains(words)),
        "{said}"
    );
    fs::metadata(file).unwrap().len()
}

#[test]
fn two_directories_share_a_limit_that_the_kernel_keeps_and_that_goes_away() {
    let Some(dir) = scratch("two_directories_share_a_limit") else {
        return;
    };
    let (upper, work) = (make(&dir.path().join("fs")), make(&dir.path().join("work")));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    check(dir.path()).unwrap();
    limit([&upper, &work], 1 << 20).unwrap();
    let opened = FileSystem::of(&upper).unwrap();
    let id = opened.project().unwrap().unwrap();
    assert!(choice::is_ours(id));
    assert_eq!(
        FileSystem::of(&work).unwrap().project().unwrap(),
        Some(id),
        "renames between them"
    );
    assert_eq!(opened.usage(id).unwrap().limit, 1 << 20);
    // One half in each directory: together they reach the limit, less the directories themselves on ext4.
    let written = fill(&upper.join("half"), 512 << 10) + fill(&work.join("rest"), 10 << 20);
    assert!((900 << 10..=1 << 20).contains(&written), "{written}");
    fs::rename(work.join("rest"), upper.join("rest")).unwrap();

    // Identified by the block device, as an old kernel requires, it is the same file system.
    let by_device = FileSystem::by_device(&upper).unwrap();
    by_device.enforces().unwrap();
    assert_eq!(by_device.usage(id).unwrap(), opened.usage(id).unwrap());
    by_device.set_limit(id, 2 << 20).unwrap();
    assert_eq!(opened.usage(id).unwrap().limit, 2 << 20);

    release(&upper).unwrap();
    release(&upper).unwrap();
    assert_eq!(opened.usage(id).unwrap().limit, 0);
    assert_eq!(fill(&upper.join("more"), 2 << 20), 2 << 20);
}

#[test]
fn claims_that_meet_part_with_a_project_each() {
    let Some(dir) = scratch("claims_that_meet") else {
        return;
    };
    const CLAIMS: usize = 8;
    for round in 0..20 {
        let start = Barrier::new(CLAIMS);
        let claimed: Vec<u32> = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..CLAIMS)
                .map(|n| {
                    let at = dir.path().join(format!("{round}-{n}"));
                    let start = &start;
                    scope.spawn(move || {
                        let dirs = ["fs", "work"].map(|name| FileSystem::of(&make(&at.join(name))).unwrap());
                        // All claims begin at the same number, which no two inodes do, and each continues with a step
                        // of its own.
                        let at = |n: u32| choice::FIRST + n % choice::COUNT;
                        let step = 2 * u32::try_from(n).unwrap() + 1;
                        let candidates = (0..1000).map(|i| at(round * 1024 + i * step));
                        start.wait();
                        claim(&dirs, candidates).unwrap()
                    })
                })
                .collect();
            claims.into_iter().map(|claim| claim.join().unwrap()).collect()
        });
        let distinct: BTreeSet<_> = claimed.iter().collect();
        assert_eq!(distinct.len(), CLAIMS, "{claimed:?}");
        for (n, id) in claimed.iter().enumerate() {
            let opened = FileSystem::of(&dir.path().join(format!("{round}-{n}/work"))).unwrap();
            assert_eq!(opened.project().unwrap(), Some(*id));
            assert_eq!(opened.usage(*id).unwrap().inodes, 2);
        }
    }
}

#[test]
fn a_directory_with_something_in_it_is_refused() {
    let Some(dir) = scratch("a_directory_with_something_in_it") else {
        return;
    };
    let (fs, work) = (make(&dir.path().join("fs")), make(&dir.path().join("work/work")));
    let error = limit([&fs, work.parent().unwrap()], 1 << 20).unwrap_err();
    assert!(matches!(error, Error::NotNew { .. }), "{error}");
    assert_eq!(FileSystem::of(&fs).unwrap().project().unwrap(), Some(0));
}

#[test]
fn a_file_system_without_project_quotas_is_named_with_where_it_is() {
    let error = check(Path::new("/proc")).unwrap_err();
    assert!(error.is_unsupported(), "{error:?}");
    assert_eq!(
        error.to_string(),
        "proc at /proc has no project quotas; an XFS or ext4 mounted with -o prjquota would do"
    );
}

#[test]
fn a_directory_that_is_not_there_cannot_be_limited_and_has_nothing_to_release() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    let error = check(&gone).unwrap_err();
    assert!(matches!(error, Error::OutOfSight { .. }), "{error}");
    assert!(error.to_string().contains(&gone.display().to_string()), "{error}");
    release(&gone).unwrap();
    // Whatever this file system supports, the directory has no project of fnctr.
    release(dir.path()).unwrap();
}
