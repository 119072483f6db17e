//! What an image contains where every container gets its own files: `/etc/hosts` and similar files, and `/dev`.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::lookup::{Ownership, Place, place};
use super::walk::{End, is, open, walk};

/// The directories where a container always has its own file system, whatever the image contains.
const OWN: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The link targets that lead to the list of mounts.
const MOUNTS: [&str; 4] = [
    "/proc/mounts",
    "/proc/self/mounts",
    "../proc/mounts",
    "../proc/self/mounts",
];

/// The contents of an image in `/etc`, and its `/dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Etc {
    /// The directory without links, together with its parents, parents first; `None` if `/etc` is not a directory and
    /// does not lead to one.
    pub(crate) dir: Option<Vec<(String, Ownership)>>,
    pub(crate) hosts: Entry,
    pub(crate) hostname: Entry,
    pub(crate) resolv_conf: Entry,
    pub(crate) mtab: Entry,
    /// The files of users and groups that are directories in the image: runtimes read them for every container.
    pub(crate) not_files: Vec<String>,
    /// The directory `/dev`, if the image has one.
    pub(crate) dev: Option<Ownership>,
}

/// The kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    Nothing,
    File,
    Directory,
    /// A symbolic link to the list of mounts.
    Mounts,
    /// Another link, on which no file can be mounted: it leads in a circle, to a directory, or out of the image.
    Astray,
    /// Another link, a device, or the like.
    Other,
}

/// Inspects a root file system.
pub(super) fn etc(root: BorrowedFd<'_>) -> io::Result<Etc> {
    let own = OWN.map(str::to_owned);
    let dir = match walk(root, "/etc", &own)? {
        End::There(at, found) if is(&found, FileType::Directory)? => Some(at),
        _ => None,
    };
    let entry = |name: &str| match &dir {
        Some(dir) => entry(root, &format!("{}/{name}", dir.trim_end_matches('/')), &own),
        None => Ok(Entry::Nothing),
    };
    let [hosts, hostname, resolv_conf, mtab] = [
        entry("hosts")?,
        entry("hostname")?,
        entry("resolv.conf")?,
        entry("mtab")?,
    ];
    let mut not_files = Vec::new();
    for path in ["/etc/passwd", "/etc/group"] {
        if let Place::Directory(_) | Place::Linked(_) = place(root, path)? {
            not_files.push(path.to_owned());
        }
    }
    let dev = match place(root, "/dev")? {
        Place::Directory(dev) => Some(dev),
        _ => None,
    };
    Ok(Etc {
        hosts,
        hostname,
        resolv_conf,
        mtab,
        not_files,
        dev,
        dir: dir.map(|dir| above(root, &dir)).transpose()?,
    })
}

/// A directory and its parents except for the root, with their owners.
fn above(root: BorrowedFd<'_>, dir: &str) -> io::Result<Vec<(String, Ownership)>> {
    let mut all = Vec::new();
    for path in Path::new(dir).ancestors().filter(|path| path.parent().is_some()) {
        let path = path.display().to_string();
        if let Place::Directory(whose) = place(root, &path)? {
            all.push((path, whose));
        }
    }
    all.reverse();
    Ok(all)
}

fn entry(root: BorrowedFd<'_>, path: &str, own: &[String]) -> io::Result<Entry> {
    let Ok(found) = open(root, path)? else {
        return Ok(Entry::Nothing);
    };
    let stat = rustix::fs::fstat(&found)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Entry::File,
        FileType::Directory => Entry::Directory,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
            match target.to_str() {
                Ok(target) if MOUNTS.contains(&target) => Entry::Mounts,
                _ => link(root, path, own)?,
            }
        }
        _ => Entry::Other,
    })
}

fn link(root: BorrowedFd<'_>, path: &str, own: &[String]) -> io::Result<Entry> {
    Ok(match walk(root, path, own)? {
        End::There(_, found) if is(&found, FileType::Directory)? => Entry::Astray,
        End::There(..) | End::Nothing(_) => Entry::Other,
        End::Blocked | End::Hidden => Entry::Astray,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn look(prepare: impl FnOnce(&Path)) -> Etc {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let root = fs::File::open(dir.path()).unwrap();
        etc(root.as_fd()).unwrap()
    }

    fn dirs(etc: &Etc) -> Option<Vec<&str>> {
        let dir = etc.dir.as_ref()?;
        Some(dir.iter().map(|(path, _)| path.as_str()).collect())
    }

    #[test]
    fn every_name_is_classified_by_what_it_is_and_not_by_where_it_leads() {
        let found = look(|root| {
            let at = |path: &str| root.join(path);
            fs::create_dir(at("etc")).unwrap();
            fs::set_permissions(at("etc"), fs::Permissions::from_mode(0o750)).unwrap();
            fs::create_dir(at("dev")).unwrap();
            fs::set_permissions(at("dev"), fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(at("etc/hosts"), "").unwrap();
            symlink("hostname", at("etc/hostname")).unwrap();
            fs::create_dir(at("etc/resolv.conf")).unwrap();
            symlink("resolv.conf", at("etc/group")).unwrap();
            symlink("../proc/self/mounts", at("etc/mtab")).unwrap();
        });
        assert_eq!(dirs(&found), Some(vec!["/etc"]));
        assert_eq!(found.dir.as_ref().unwrap()[0].1.mode, 0o750);
        assert_eq!(found.dev.unwrap().mode, 0o700);
        assert_eq!(found.not_files, ["/etc/group"]);
        let entries = [found.hosts, found.hostname, found.resolv_conf, found.mtab];
        assert_eq!(
            entries,
            [Entry::File, Entry::Astray, Entry::Directory, Entry::Mounts]
        );
    }

    #[test]
    fn a_link_is_classified_by_whether_a_file_can_be_mounted_where_it_leads() {
        for (target, entry) in [
            ("/run/systemd/resolve/stub-resolv.conf", Entry::Other),
            ("passwd", Entry::Other),
            ("/proc/net/pnp", Entry::Astray),
            ("/proc/mounts", Entry::Mounts),
            ("/dev/null", Entry::Astray),
            ("resolv.conf", Entry::Astray),
            ("/etc", Entry::Astray),
            ("passwd/x", Entry::Astray),
        ] {
            let found = look(|root| {
                fs::create_dir(root.join("etc")).unwrap();
                fs::write(root.join("etc/passwd"), "").unwrap();
                symlink(target, root.join("etc/resolv.conf")).unwrap();
            });
            assert_eq!(found.resolv_conf, entry, "{target}");
        }
    }

    #[test]
    fn a_directory_behind_a_link_is_returned_without_the_link() {
        let found = look(|root| {
            fs::create_dir_all(root.join("conf/etc")).unwrap();
            fs::write(root.join("conf/etc/mtab"), "stale").unwrap();
            symlink("/../conf/etc", root.join("etc")).unwrap();
        });
        assert_eq!(dirs(&found), Some(vec!["/conf", "/conf/etc"]));
        assert_eq!((found.mtab, found.hosts), (Entry::File, Entry::Nothing));
        assert_eq!(found.dev, None);
    }

    #[test]
    fn what_leads_to_no_directory_of_the_image_is_none() {
        let link = |to: &'static str| {
            move |root: &Path| {
                fs::create_dir(root.join("proc")).unwrap();
                symlink(to, root.join("etc")).unwrap();
            }
        };
        for etc in [
            look(|_| {}),
            look(|root| fs::write(root.join("etc"), "x").unwrap()),
            look(link("etc")),
            look(link("/nowhere")),
            look(link("/proc")),
        ] {
            assert_eq!(etc.dir, None);
            assert_eq!(etc.hosts, Entry::Nothing);
        }
    }
}
