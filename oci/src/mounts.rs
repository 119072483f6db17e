//! All mounts of a container: the default file systems, the init, and those that the caller requests; parents before
//! children.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::Mount as OciMount;

use crate::config::{ContainerConfig, ImageConfig, Mount, TmpfsAccess};
use crate::error::Error;
use crate::process::INIT;
use crate::{baseline, paths};

/// Entries of /proc over which runtimes allow a file to be mounted (for lxcfs and similar programs). They refuse all
/// other mounts below /proc.
const PROC_EXCEPTIONS: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

const MEBIBYTE: u64 = 1 << 20;

/// All bits of a mode.
const MODE_MAX: u32 = 0o7777;

/// A tmpfs uses one inode for its own root, so with a single one it has none for a file.
const TMPFS_INODES_MIN: u64 = 2;

/// The kernel refuses more inodes, because it accounts 1024 bytes for each (`BOGO_INODE_SIZE`).
const TMPFS_INODES_MAX: u64 = u64::MAX / 1024;

/// All mounts, in the order in which the runtime makes them.
pub(crate) fn mounts(
    config: &ContainerConfig,
    image: &ImageConfig,
    rootfs: &str,
) -> Result<Vec<OciMount>, Error> {
    let mut own = Vec::new();
    if let Some(init) = &config.init {
        let source = paths::absolute(init).map_err(|why| Error::Init {
            path: init.clone(),
            why,
        })?;
        own.push((INIT.to_owned(), bind(INIT, &source, true)));
    }
    for mount in &config.mounts {
        own.push(translate(mount)?);
    }
    let mut destinations = HashSet::new();
    for (destination, _) in &own {
        if !destinations.insert(destination.as_str()) {
            return Err(Error::DuplicateMount {
                destination: destination.clone(),
            });
        }
    }
    let mut all: Vec<OciMount> = baseline::mounts();
    all.retain(|mount| !replaced(mount.destination(), &destinations));
    if config.readonly_rootfs {
        for volume in &image.volumes {
            all.extend(kept_writable(volume, &destinations, rootfs)?);
        }
    }
    all.extend(own.into_iter().map(|(_, mount)| mount));
    // A parent has fewer components than its children; the sort keeps the order of equals.
    all.sort_by_key(|mount| mount.destination().components().count());
    Ok(all)
}

/// Whether a mount of the caller replaces this default one: a mount at its place, or above it. A caller that mounts
/// /dev provides all of its content, and the runtime must not create a directory in a /sys/fs that the caller has
/// mounted.
fn replaced(default: &Path, own: &HashSet<&str>) -> bool {
    let Some(default) = default.to_str() else {
        return false;
    };
    own.iter()
        .any(|own| *own == default || paths::is_below(default, own))
}

/// The image's directory, mounted over itself before the root file system becomes read-only. A relative source is below
/// the runtime's bundle. `None` if the caller or a default file system already covers this place.
fn kept_writable(volume: &str, own: &HashSet<&str>, rootfs: &str) -> Result<Option<OciMount>, Error> {
    let place = place(Path::new(volume))?;
    let taken = |other: &str| place == other || paths::is_below(&place, other);
    let defaults = baseline::mounts();
    let mut defaults = defaults.iter().filter_map(|mount| mount.destination().to_str());
    if own.iter().any(|own| taken(own)) || defaults.any(taken) {
        return Ok(None);
    }
    Ok(Some(bind(
        &place,
        &format!("{}{place}", rootfs.trim_end_matches('/')),
        false,
    )))
}

fn translate(mount: &Mount) -> Result<(String, OciMount), Error> {
    match mount {
        Mount::Bind {
            source,
            destination,
            readonly,
        } => {
            let place = place(destination)?;
            let source = paths::absolute(source).map_err(|why| Error::MountSource {
                path: source.clone(),
                why,
            })?;
            let mount = bind(&place, &source, *readonly);
            Ok((place, mount))
        }
        Mount::Tmpfs {
            destination,
            size,
            inodes,
            access,
        } => {
            let place = place(destination)?;
            if place == "/dev" {
                let why = "a tmpfs there has no devices";
                return Err(Error::MountDestination {
                    path: destination.clone(),
                    why,
                });
            }
            let mount = tmpfs(destination, &place, *size, *inodes, *access)?;
            Ok((place, mount))
        }
    }
}

/// The destination in its canonical spelling.
fn place(destination: &Path) -> Result<String, Error> {
    let refuse = |why| Error::MountDestination {
        path: destination.to_owned(),
        why,
    };
    let place = paths::absolute(destination).map_err(refuse)?;
    if let Some(why) = paths::too_long(&place, paths::INSIDE_MAX) {
        return Err(refuse(why));
    }
    match place.as_str() {
        "/" => Err(refuse("it is the root file system itself")),
        "/proc" | "/sys" => Err(refuse("the container needs its own")),
        inside if paths::is_below(inside, "/proc") && !PROC_EXCEPTIONS.contains(&inside) => {
            Err(refuse("it is inside /proc"))
        }
        _ => Ok(place),
    }
}

/// A tree of the host, including the mounts in it; later mounts on either side do not affect the other. `ro` applies
/// only to the tree's own file system. Docker's `rro` would also apply to the mounts in it, but some runtimes do not
/// know that option and pass it on to the file system, which then refuses the mount.
fn bind(destination: &str, source: &str, readonly: bool) -> OciMount {
    let access = if readonly { "ro" } else { "rw" };
    let options = ["rbind", "rprivate", access].map(str::to_owned).to_vec();
    baseline::mount(destination, "bind", source, options)
}

/// A file system in memory, without devices and set-user-id programs. If it covers a directory, runc before 1.1.8 gives
/// it the mode of that directory and ignores the option; so the code that prepares the root file system must give that
/// directory this mode.
fn tmpfs(
    destination: &Path,
    place: &str,
    size: Option<u64>,
    inodes: Option<u64>,
    access: TmpfsAccess,
) -> Result<OciMount, Error> {
    if access.mode > MODE_MAX {
        return Err(Error::TmpfsMode {
            destination: destination.to_owned(),
            mode: access.mode,
        });
    }
    let written = if access.readonly { "ro" } else { "rw" };
    let executed = if access.exec { "exec" } else { "noexec" };
    let mut options = [written, "nosuid", "nodev", executed].map(str::to_owned).to_vec();
    options.push(format!("mode={:o}", access.mode));
    let owners = [("uid", access.uid), ("gid", access.gid)];
    options.extend(
        owners
            .into_iter()
            .filter_map(|(name, id)| Some(format!("{name}={}", id?))),
    );
    if let Some(size) = size {
        let refuse = |why| {
            Err(Error::TmpfsSize {
                destination: destination.to_owned(),
                size,
                why,
            })
        };
        if size == 0 {
            return refuse("to the kernel 0 is no limit, so leave it out");
        }
        if size > i64::MAX.unsigned_abs() {
            return refuse("it does not fit in 63 bits");
        }
        options.push(match size % MEBIBYTE {
            0 => format!("size={}m", size / MEBIBYTE),
            _ => format!("size={size}"),
        });
    }
    if let Some(inodes) = inodes {
        let refuse = |why| {
            Err(Error::TmpfsInodes {
                destination: destination.to_owned(),
                inodes,
                why,
            })
        };
        if inodes == 0 {
            return refuse("to the kernel 0 is no limit, so leave it out");
        }
        if inodes < TMPFS_INODES_MIN {
            return refuse("one is its root directory, so there is none for a file");
        }
        if inodes > TMPFS_INODES_MAX {
            return refuse("it is more than the kernel can count");
        }
        options.push(format!("nr_inodes={inodes}"));
    }
    Ok(baseline::mount(place, "tmpfs", "tmpfs", options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(source: &str, destination: &str) -> Mount {
        Mount::Bind {
            source: source.into(),
            destination: destination.into(),
            readonly: false,
        }
    }

    fn memory(destination: &str, size: Option<u64>, inodes: Option<u64>) -> Mount {
        Mount::Tmpfs {
            destination: destination.into(),
            size,
            inodes,
            access: TmpfsAccess::default(),
        }
    }

    fn made(mounts: &[Mount]) -> Result<Vec<String>, Error> {
        let config = ContainerConfig {
            mounts: mounts.to_vec(),
            ..ContainerConfig::default()
        };
        let line = |mount: &OciMount| {
            let [destination, source] =
                [mount.destination(), mount.source().as_ref().unwrap()].map(|p| p.display());
            let kind = mount.typ().as_ref().unwrap();
            format!(
                "{destination} {kind} {source} {}",
                mount.options().as_ref().unwrap().join(",")
            )
        };
        Ok(super::mounts(&config, &ImageConfig::default(), "rootfs")?
            .iter()
            .map(line)
            .collect())
    }

    fn extra(mounts: &[Mount]) -> Vec<String> {
        let default = made(&[]).unwrap();
        made(mounts)
            .unwrap()
            .into_iter()
            .filter(|line| !default.contains(line))
            .collect()
    }

    #[test]
    fn a_bind_is_private_and_a_tmpfs_harmless() {
        assert_eq!(
            extra(&[
                memory("/tmp", Some(64 << 20), Some(1000)),
                binding("/host//d/", "/d/")
            ]),
            [
                "/tmp tmpfs tmpfs rw,nosuid,nodev,noexec,mode=1777,size=64m,nr_inodes=1000",
                "/d bind /host/d rbind,rprivate,rw",
            ]
        );
        let readonly = Mount::Bind {
            source: "/s".into(),
            destination: "/d".into(),
            readonly: true,
        };
        assert_eq!(extra(&[readonly]), ["/d bind /s rbind,rprivate,ro"]);
        assert_eq!(
            extra(&[memory("/tmp", None, None)]),
            ["/tmp tmpfs tmpfs rw,nosuid,nodev,noexec,mode=1777"]
        );
        let access = TmpfsAccess {
            mode: 0o750,
            uid: Some(0),
            gid: Some(7),
            exec: true,
            readonly: true,
        };
        let mount = |access| Mount::Tmpfs {
            destination: "/run".into(),
            size: Some(10_000),
            inodes: None,
            access,
        };
        assert_eq!(
            extra(&[mount(access)]),
            ["/run tmpfs tmpfs ro,nosuid,nodev,exec,mode=750,uid=0,gid=7,size=10000"]
        );
        let mode = TmpfsAccess {
            mode: 0o10_000,
            ..access
        };
        assert!(matches!(made(&[mount(mode)]), Err(Error::TmpfsMode { .. })));
    }

    #[test]
    fn a_parent_is_mounted_before_what_lies_in_it() {
        let mounts = [
            binding("/s", "/a/b/c"),
            memory("/a", None, None),
            binding("/s", "/a/b"),
            binding("/s", "/sbin"),
        ];
        let config = ContainerConfig {
            mounts: mounts.to_vec(),
            init: Some("/usr/bin/tini".into()),
            ..ContainerConfig::default()
        };
        let order: Vec<_> = super::mounts(&config, &ImageConfig::default(), "rootfs")
            .unwrap()
            .iter()
            .map(|m| m.destination().clone())
            .collect();
        let at = |path: &str| order.iter().position(|d| d == Path::new(path)).unwrap();
        assert!(at("/a") < at("/a/b") && at("/a/b") < at("/a/b/c"));
        assert!(at("/sbin") < at(INIT), "the init must not be hidden");
        assert!(at("/dev") < at("/dev/pts"));
    }

    #[test]
    fn the_callers_mount_replaces_a_default_one() {
        let made_shm = made(&[memory("/dev/shm", Some(1), None)]).unwrap();
        assert_eq!(
            made_shm
                .iter()
                .filter(|line| line.starts_with("/dev/shm "))
                .count(),
            1
        );
        assert_eq!(made_shm.len(), made(&[]).unwrap().len());
        let made_dev = made(&[binding("/dev", "/dev")]).unwrap();
        let below: Vec<_> = made_dev.iter().filter(|line| line.starts_with("/dev")).collect();
        assert_eq!(below, ["/dev bind /dev rbind,rprivate,rw"]);
        for place in ["/sys/fs/cgroup", "/sys/fs"] {
            let made = made(&[binding("/s", place)]).unwrap();
            assert!(
                !made.iter().any(|line| line.contains(" cgroup cgroup ")),
                "{made:?}"
            );
        }
    }

    #[test]
    fn a_volume_of_the_image_stays_writable_where_nothing_else_is_mounted() {
        let made = |readonly_rootfs| {
            let config = ContainerConfig {
                readonly_rootfs,
                mounts: vec![memory("/tmp", None, None)],
                ..ContainerConfig::default()
            };
            let volumes = ["/data//x/", "/tmp", "/tmp/y", "/dev/shm", "/srv"];
            let image = ImageConfig {
                volumes: volumes.map(str::to_owned).to_vec(),
                ..ImageConfig::default()
            };
            let mounts = super::mounts(&config, &image, "rootfs").unwrap();
            let binds = mounts
                .iter()
                .filter(|mount| mount.typ().as_deref() == Some("bind"));
            let line = |mount: &OciMount| {
                let source = mount.source().as_ref().unwrap().display();
                let options = mount.options().as_ref().unwrap().join(",");
                format!("{} {source} {options}", mount.destination().display())
            };
            binds.map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            made(true),
            [
                "/srv rootfs/srv rbind,rprivate,rw",
                "/data/x rootfs/data/x rbind,rprivate,rw"
            ]
        );
        assert!(made(false).is_empty(), "all of the root is writable");
    }

    #[test]
    fn two_mounts_at_one_place_are_refused() {
        let twice = [memory("/tmp", None, None), binding("/s", "//tmp/")];
        assert_eq!(
            made(&twice),
            Err(Error::DuplicateMount {
                destination: "/tmp".into()
            })
        );
        let config = ContainerConfig {
            mounts: vec![binding("/s", INIT)],
            init: Some("/usr/bin/tini".into()),
            ..ContainerConfig::default()
        };
        assert_eq!(
            super::mounts(&config, &ImageConfig::default(), "rootfs"),
            Err(Error::DuplicateMount {
                destination: INIT.into()
            })
        );
    }

    #[test]
    fn a_place_that_breaks_the_container_is_refused() {
        for bad in [
            "",
            "tmp",
            "/a/../b",
            "/a\0",
            "/",
            "/proc",
            "/proc/",
            "/sys",
            "/proc/sys",
            "/proc/1/fd",
        ] {
            assert!(
                matches!(made(&[binding("/s", bad)]), Err(Error::MountDestination { .. })),
                "{bad:?}"
            );
            assert!(
                matches!(
                    made(&[memory(bad, None, None)]),
                    Err(Error::MountDestination { .. })
                ),
                "{bad:?}"
            );
        }
        let long = "/abc".repeat(1000);
        assert!(made(&[binding("/s", &long)]).is_err());
        assert!(made(&[binding(&long, "/d")]).is_ok(), "the host has more room");
        assert!(made(&[memory("/dev", None, None)]).is_err());
        assert!(made(&[binding("/lxcfs/meminfo", "/proc/meminfo")]).is_ok());
        assert!(made(&[binding("/sys/fs/cgroup", "/sys/fs/cgroup")]).is_ok());
        for bad in ["", "s", "/s/../t", "/s\0"] {
            assert!(
                matches!(made(&[binding(bad, "/d")]), Err(Error::MountSource { .. })),
                "{bad:?}"
            );
        }
        let config = ContainerConfig {
            init: Some("tini".into()),
            ..ContainerConfig::default()
        };
        assert!(matches!(
            super::mounts(&config, &ImageConfig::default(), "rootfs"),
            Err(Error::Init { .. })
        ));
    }

    #[test]
    fn a_tmpfs_that_holds_nothing_or_everything_is_refused() {
        for size in [0, (1 << 63), u64::MAX] {
            assert!(
                matches!(
                    made(&[memory("/t", Some(size), None)]),
                    Err(Error::TmpfsSize { .. })
                ),
                "{size}"
            );
        }
        for inodes in [0, 1, u64::MAX] {
            assert!(
                matches!(
                    made(&[memory("/t", None, Some(inodes))]),
                    Err(Error::TmpfsInodes { .. })
                ),
                "{inodes}"
            );
        }
        assert!(made(&[memory("/t", Some((1 << 63) - 1), Some(2))]).is_ok());
    }
}
