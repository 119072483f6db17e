//! `/etc`: what replaces entries that are in the way of the files that every container gets there, and the link to the
//! list of mounts. Does not read the image.

use std::path::Path;

use fnctr_oci::Mount;

use super::super::etc;
use super::super::mount_points::{covering, destination};
use super::directories::shows_the_image;
use super::item::Item;
use super::{InitLayer, Unusable, is_a_directory};
use crate::engine::mount_points::NEW;
use crate::image::{Entry, Etc, Ownership};

/// The items that must be in `/etc`.
pub(super) fn items(found: &Etc, mounts: &[Mount], image: &str) -> Result<InitLayer, Unusable> {
    let mut layer = InitLayer::default();
    let place = Path::new("/etc");
    if covering(place, mounts).is_some() {
        return Ok(layer);
    }
    let mut not_files = found.not_files.iter();
    if let Some(path) = not_files.find(|path| covering(Path::new(path), mounts).is_none()) {
        return Err(Unusable::Directory {
            path: (*path).to_owned(),
            image: image.to_owned(),
        });
    }
    // A directory that is in a mount of the plan does not belong to the image.
    let is_image_s = |dir: &&Vec<(String, Ownership)>| {
        dir.last()
            .is_none_or(|(path, _)| shows_the_image(Path::new(path), mounts))
    };
    let dir = found.dir.as_ref().filter(is_image_s);
    let at = match dir {
        Some(dir) => dir.last().map_or("", |(path, _)| path.as_str()),
        None => "/etc",
    };
    let entry = |entry| dir.map_or(Entry::Nothing, |_| entry);
    let mounted = |name: &str| mounts.iter().find(|mount| is_at(mount, &place.join(name)));
    for (name, entry) in [
        (etc::HOSTS, entry(found.hosts)),
        (etc::HOSTNAME, entry(found.hostname)),
        (etc::RESOLV_CONF, entry(found.resolv_conf)),
    ] {
        let path = format!("{at}/{name}");
        let is_dir = mounted(name).is_some_and(is_a_directory);
        match entry {
            Entry::Directory if !is_dir => {
                let image = image.to_owned();
                return Err(Unusable::Directory { path, image });
            }
            Entry::Mounts | Entry::Astray | Entry::Other if !is_dir => {
                // The runtime can mount over the others.
                if entry != Entry::Other {
                    layer.needed.get_or_insert_with(|| path.clone());
                }
                layer.items.push(Item::File(path));
            }
            _ => {}
        }
    }
    let path = format!("{at}/{}", etc::MTAB);
    match (mounted(etc::MTAB), entry(found.mtab)) {
        (None, Entry::Nothing | Entry::File | Entry::Astray | Entry::Other) => {
            layer.items.push(Item::Mounts(path));
        }
        // A mount over the link would be made where the link leads.
        (Some(mount), Entry::Mounts | Entry::Astray | Entry::Other) if !is_a_directory(mount) => {
            layer.items.push(Item::File(path));
        }
        _ => {}
    }
    let way: Vec<Item> = match dir {
        None => vec![Item::Directory("/etc".to_owned(), NEW)],
        Some(_) if layer.items.is_empty() => Vec::new(),
        Some(dir) => dir
            .iter()
            .map(|(path, whose)| Item::Parent(path.clone(), *whose))
            .collect(),
    };
    layer.items.splice(0..0, way);
    Ok(layer)
}

fn is_at(mount: &Mount, place: &Path) -> bool {
    destination(mount).components().eq(place.components())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use fnctr_oci::TmpfsAccess;

    use super::*;

    fn etc() -> Etc {
        Etc {
            dir: Some(vec![("/etc".to_owned(), NEW)]),
            hosts: Entry::File,
            hostname: Entry::Nothing,
            resolv_conf: Entry::File,
            mtab: Entry::Mounts,
            not_files: Vec::new(),
            dev: Some(NEW),
        }
    }

    fn bind(source: &Path, destination: &str) -> Mount {
        Mount::Bind {
            source: source.to_owned(),
            destination: destination.into(),
            readonly: true,
        }
    }

    fn memory(destination: &str) -> Mount {
        Mount::Tmpfs {
            destination: destination.into(),
            size: None,
            inodes: None,
            access: TmpfsAccess::default(),
        }
    }

    fn made(found: &Etc, mounts: &[Mount]) -> Vec<Item> {
        items(found, mounts, "i").unwrap().items
    }

    fn parent(path: &str) -> Item {
        Item::Parent(path.to_owned(), NEW)
    }

    #[test]
    fn an_image_that_fits_costs_nothing() {
        assert_eq!(items(&etc(), &[], "i").unwrap(), InitLayer::default());
    }

    #[test]
    fn a_link_gives_way_to_a_plain_file_wherever_it_leads() {
        let found = Etc {
            hosts: Entry::Other,
            hostname: Entry::Mounts,
            ..etc()
        };
        let layer = items(&found, &[], "i").unwrap();
        let file = |name: &str| Item::File(name.to_owned());
        assert_eq!(
            layer.items,
            [parent("/etc"), file("/etc/hosts"), file("/etc/hostname")]
        );
        assert_eq!(layer.needed.as_deref(), Some("/etc/hostname"));
        // Also for a file that the plan mounts there; another check covers a directory.
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("hosts");
        fs::write(&own, "").unwrap();
        assert_eq!(made(&found, &[bind(&own, "/etc//hosts")]), layer.items);
        let mounts = [bind(dir.path(), "/etc/hosts")];
        assert_eq!(made(&found, &mounts), [parent("/etc"), file("/etc/hostname")]);
        assert!(made(&found, &[memory("/etc")]).is_empty());
    }

    #[test]
    fn a_directory_in_the_place_of_a_file_is_refused_by_name() {
        let found = Etc {
            resolv_conf: Entry::Directory,
            ..etc()
        };
        let error = items(&found, &[], "i").unwrap_err().to_string();
        assert!(
            error.contains("\"/etc/resolv.conf\" in image i is a directory"),
            "{error}"
        );
        let dir = tempfile::tempdir().unwrap();
        assert!(made(&found, &[bind(dir.path(), "/etc/resolv.conf")]).is_empty());
        let found = Etc {
            not_files: vec!["/etc/passwd".to_owned()],
            ..etc()
        };
        let error = items(&found, &[], "i").unwrap_err().to_string();
        assert!(
            error.contains("\"/etc/passwd\" in image i is a directory"),
            "{error}"
        );
        assert!(made(&found, &[bind(dir.path(), "/etc/passwd")]).is_empty());
    }

    #[test]
    fn mtab_is_a_link_to_the_mounts_whatever_the_image_has() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("mtab");
        fs::write(&own, "").unwrap();
        for mtab in [Entry::Nothing, Entry::File, Entry::Astray, Entry::Other] {
            let found = Etc { mtab, ..etc() };
            let expected = [parent("/etc"), Item::Mounts("/etc/mtab".to_owned())];
            assert_eq!(made(&found, &[]), expected, "{mtab:?}");
        }
        for mtab in [Entry::Mounts, Entry::Other] {
            let found = Etc { mtab, ..etc() };
            let expected = [parent("/etc"), Item::File("/etc/mtab".to_owned())];
            assert_eq!(made(&found, &[bind(&own, "/etc/mtab")]), expected, "{mtab:?}");
        }
        let found = Etc {
            mtab: Entry::Directory,
            ..etc()
        };
        assert!(made(&found, &[]).is_empty());
    }

    #[test]
    fn a_linked_directory_of_the_image_is_used_and_otherwise_a_new_one_is_made() {
        let linked = Etc {
            dir: Some(vec![("/c".to_owned(), NEW), ("/c/etc".to_owned(), NEW)]),
            mtab: Entry::Nothing,
            ..etc()
        };
        let expected = [
            parent("/c"),
            parent("/c/etc"),
            Item::Mounts("/c/etc/mtab".to_owned()),
        ];
        assert_eq!(made(&linked, &[]), expected);
        let new = [
            Item::Directory("/etc".to_owned(), NEW),
            Item::Mounts("/etc/mtab".to_owned()),
        ];
        // The link leads into a mount, so the files would be made outside of the layer.
        assert_eq!(made(&linked, &[memory("/c")]), new);
        assert_eq!(made(&Etc { dir: None, ..linked }, &[]), new);
    }
}
