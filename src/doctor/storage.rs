//! Whether images and writable layers can be stored where they are configured to be.

use std::path::Path;

use super::space::Space;
use super::{Check, room};
use crate::{ByteSize, embedded, mountinfo, quota};

/// File systems that cannot hold overlay's writable layer.
const UNFIT: [&str; 8] = [
    "overlay", "nfs", "nfs4", "cifs", "9p", "virtiofs", "fuse", "fuseblk",
];

/// Less free space than this is a warning: one image of a language runtime takes about as much.
const LOW: u64 = 1 << 30;

/// Whether the kernel has overlay, from `/proc/filesystems`.
pub(super) fn overlay(filesystems: &str) -> Check {
    const NAME: &str = "overlay";
    let known = filesystems
        .lines()
        .any(|line| line.split_whitespace().next_back() == Some("overlay"));
    if known {
        Check::ok(NAME, "the kernel has it")
    } else {
        Check::bad(
            NAME,
            "the kernel does not have it, or has not loaded it",
            "modprobe overlay",
        )
    }
}

/// Whether a private containerd may use its configured directory.
pub(super) fn home(would_do: Result<(), embedded::Error>) -> Check {
    const NAME: &str = "home";
    match would_do {
        Ok(()) => Check::ok(NAME, "only root can write there"),
        Err(embedded::Error::Writable { path }) => Check::bad(
            NAME,
            format!("others can write in {}", path.display()),
            format!("chmod go-w {}", path.display()),
        ),
        Err(embedded::Error::Foreign { path, uid: 0 }) => Check::bad(
            NAME,
            format!("{} belongs to root, and this process is not", path.display()),
            "sudo fnctr doctor",
        ),
        Err(error) => Check::bad(NAME, crate::chain(&error), "use --root with another directory"),
    }
}

/// Whether the writable layers of containers can be limited, according to the kernel and the file system under `data`.
pub(super) fn disk_limit(found: Result<(), quota::Error>) -> Check {
    const NAME: &str = "disk limit";
    let Err(error) = found else {
        return Check::ok(NAME, "fs_size is enforced, by project quotas");
    };
    let remedy = error.remedy();
    let said = crate::chain(&error);
    // The sentence ends with the remedy, which is a separate field here.
    let what = remedy.as_deref().and_then(|help| said.split_once(help));
    let what = what.map_or(said.as_str(), |(what, _)| what.trim_end_matches([';', ' ']));
    let mend = remedy.unwrap_or_else(|| "run fnctr doctor as root".to_owned());
    Check::warn(NAME, format!("fs_size is refused: {what}"), mend)
}

/// Whether `data` is on a suitable file system. `private` is whether `data` belongs to a containerd that fnctr starts.
pub(super) fn place(data: &Path, mountinfo: &str, space: &Space, private: bool) -> Check {
    const NAME: &str = "data";
    let at = data.display();
    let elsewhere = if private {
        "use --root with a directory on ext4 or xfs"
    } else {
        "set root in /etc/containerd/config.toml to a directory on ext4 or xfs, then systemctl restart containerd"
    };
    if let Some(separator) = embedded::separator_in(data) {
        let found =
            format!("{at} has {separator:?} in its name, which separates the options of an overlay mount");
        return Check::bad(NAME, found, elsewhere);
    }
    let Some(mount) = mountinfo::file_system(mountinfo, &space.dir) else {
        return Check::warn(NAME, format!("the file system of {at} is unknown"), elsewhere);
    };
    let kind = mount.kind;
    if UNFIT.contains(&kind) || kind.starts_with("fuse.") {
        let found = format!("{at} is on {kind}, which cannot hold writable layers");
        return Check::bad(NAME, found, elsewhere);
    }
    if space.types_entries == Some(false) {
        let found = format!("{at} is on {kind} without types of directory entries (xfs needs ftype=1)");
        return Check::bad(NAME, found, elsewhere);
    }
    if let Some(lack) = room::lack(NAME, data, mountinfo, space) {
        return lack;
    }
    let free = space.free.map_or_else(
        || "unknown space".to_owned(),
        |free| format!("{} free", ByteSize(free >> 20 << 20)),
    );
    let found = format!("{at} is on {kind}, {free}");
    match kind {
        "tmpfs" => Check::warn(
            NAME,
            format!("{found}; images take memory and are lost at the next boot"),
            elsewhere,
        ),
        _ if space.free.is_some_and(|free| free < LOW) => Check::warn(NAME, found, "fnctr image prune --all"),
        _ => Check::ok(NAME, found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use std::path::PathBuf;

    use super::*;

    const UNIFIED: &str = include_str!("../../fixtures/doctor/unified.mountinfo");

    fn roomy() -> Space {
        roomy_at("/")
    }

    fn roomy_at(dir: &str) -> Space {
        Space {
            dir: dir.into(),
            free: Some(64 << 30),
            types_entries: Some(true),
            ..Space::default()
        }
    }

    #[test]
    fn overlay_must_be_a_file_system_of_its_own_name() {
        assert_eq!(overlay("nodev\toverlay\n\text4\n").status, Status::Ok);
        let check = overlay("nodev\toverlayish\n");
        assert_eq!(
            (check.status, check.mend.as_deref()),
            (Status::Bad, Some("modprobe overlay"))
        );
    }

    #[test]
    fn a_good_place_is_reported_with_its_file_system_and_room() {
        let check = place(Path::new("/var/lib/fnctr"), UNIFIED, &roomy_at("/var/lib"), true);
        assert_eq!(check.status, Status::Ok);
        assert_eq!(check.found, "/var/lib/fnctr is on xfs, 64g free");
    }

    #[test]
    fn a_place_that_cannot_stand_in_the_options_of_an_overlay_is_bad() {
        let check = place(Path::new("/var/lib/a:b"), UNIFIED, &roomy_at("/var/lib"), false);
        assert_eq!(check.status, Status::Bad);
        assert!(
            check.found.starts_with("/var/lib/a:b has ':' in its name"),
            "{check}"
        );
    }

    #[test]
    fn a_function_s_disk_that_cannot_be_limited_is_a_warning_with_what_would_do() {
        assert_eq!(disk_limit(Ok(())).status, Status::Ok);
        // proc has no quotas on any host.
        let check = disk_limit(quota::check(Path::new("/proc")));
        assert_eq!(check.status, Status::Warn);
        assert_eq!(
            check.found,
            "fs_size is refused: proc at /proc has no project quotas"
        );
        assert!(check.mend.unwrap().contains("prjquota"));
    }

    #[test]
    fn a_place_that_overlay_refuses_is_bad_and_a_costly_or_full_one_is_a_warning() {
        let on = |kind| format!("1 0 0:1 / / rw - {kind} none rw\n");
        let data = Path::new("/data");
        for kind in ["overlay", "nfs4", "9p", "fuse.sshfs"] {
            assert_eq!(
                place(data, &on(kind), &roomy(), true).status,
                Status::Bad,
                "{kind}"
            );
        }
        assert_eq!(place(data, &on("tmpfs"), &roomy(), true).status, Status::Warn);
        let untyped = Space {
            types_entries: Some(false),
            ..roomy()
        };
        assert_eq!(place(data, &on("xfs"), &untyped, true).status, Status::Bad);
        let full = Space {
            free: Some(5 << 20),
            ..roomy()
        };
        let check = place(data, &on("ext4"), &full, true);
        assert_eq!(check.status, Status::Warn);
        assert!(check.found.contains("5m free"), "{check}");
        assert_eq!(
            check.mend.as_deref(),
            Some("fnctr image prune --all"),
            "it is on ext4 already"
        );
        let read_only = Space {
            read_only: true,
            ..roomy()
        };
        assert_eq!(place(data, &on("ext4"), &read_only, true).status, Status::Bad);
        let mend = place(data, &on("tmpfs"), &roomy(), true).mend.unwrap();
        assert!(mend.contains("--root"), "{mend}");
        let mend = place(data, &on("tmpfs"), &roomy(), false).mend.unwrap();
        assert!(
            !mend.contains("--root"),
            "which moves only a private containerd: {mend}"
        );
    }

    #[test]
    fn a_home_that_others_can_write_is_mended_by_closing_it() {
        let path = PathBuf::from("/srv/f");
        let check = home(Err(embedded::Error::Writable { path }));
        assert_eq!(
            (check.status, check.mend.as_deref()),
            (Status::Bad, Some("chmod go-w /srv/f"))
        );
        assert_eq!(home(Ok(())).status, Status::Ok);
    }
}
